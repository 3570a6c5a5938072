;; Its start function calls itself for ever.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\77hostile_recursion_start\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 58))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0))
  (func $deeper (param i64) (result i64)
    (i64.add (i64.const 1) (call $deeper (i64.add (local.get 0) (i64.const 1)))))
  (func $start (drop (call $deeper (i64.const 0))))
  (start $start))
