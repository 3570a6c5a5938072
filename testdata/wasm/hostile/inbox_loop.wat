;; It looks for room for its events for ever.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\72hostile_inbox_loop\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 53))
  (func (export "wasilo_inbox") (param i32) (result i32) (loop $again (br $again)) unreachable)
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0)))
