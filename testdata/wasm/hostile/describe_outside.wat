;; wasilo_describe returns a range that lies outside of the memory.
(module
  (memory (export "memory") 1)
  (func (export "wasilo_describe") (result i64) (i64.const 0xfffffff000000040))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64) (i64.const 0)))
