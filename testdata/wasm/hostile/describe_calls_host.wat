;; wasilo_describe calls the host.
(module
  (import "wasilo_1" "now" (func $now (result i64)))
  (memory (export "memory") 1)
  (func $describe (export "wasilo_describe") (result i64) (call $now))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64) (i64.const 0)))
