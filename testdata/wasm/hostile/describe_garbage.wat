;; wasilo_describe returns bytes that are no CBOR map.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\ff\00garbage")
  (func (export "wasilo_describe") (result i64) (i64.const 9))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64) (i64.const 0)))
