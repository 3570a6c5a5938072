;; It writes to all its memory until it is stopped, where it should provide an inbox.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\76hostile_inbox_scribble\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 57))
  (func (export "wasilo_inbox") (param i32) (result i32) (local i32)
    (loop $again
      (i32.store offset=4096 (i32.and (local.get 1) (i32.const 0xeffc)) (local.get 1))
      (local.set 1 (i32.add (local.get 1) (i32.const 5)))
      (br $again))
    unreachable)
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0)))
