;; Its turn starts requests for ever, though the host soon refuses them.
(module
  (import "wasilo_1" "start" (func $start (param i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\73hostile_start_flood\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 54))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $again
      (drop (call $start (i32.const 2048) (i32.const 17)))
      (br $again))
    unreachable)
  (data (i32.const 2048) "\a3\01\64echo\02\40\03\66echo/x"))
