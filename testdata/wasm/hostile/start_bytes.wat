;; Its turn starts a thousand requests of a megabyte each, and waits for none of them.
(module
  (import "wasilo_1" "start" (func $start (param i32 i32) (result i64)))
  (memory (export "memory") 20)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\73hostile_start_bytes\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 54))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $again
      (drop (call $start (i32.const 65536) (i32.const 1048580)))
      (br $again))
    unreachable)
  (data (i32.const 65536) "\a3\01\64echo\02\5a\00\0f\ff\f0")
  (data (i32.const 1114108) "\03\66echo/x"))
