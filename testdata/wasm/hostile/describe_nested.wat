;; Its description is lists inside lists, a hundred thousand deep.
(module
  (memory (export "memory") 4)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\77hostile_describe_nested\66events\81\64call")
  (func (export "wasilo_describe") (result i64) 
    (memory.fill (i32.const 65536) (i32.const 0x81) (i32.const 100000))
    (i64.const 0x10000000186a0))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0)))
