;; Its turn hands the host a request that lies outside of the memory.
(module
  (import "wasilo_1" "request" (func $request (param i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\73hostile_bad_pointer\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 54))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (drop (call $request (i32.const 65530) (i32.const 64) (i32.const 0) (i32.const 0)))
    (i64.const 0)))
