;; Its turn calls itself for ever, through a table.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\78\1ahostile_recursion_indirect\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 62))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (call_indirect (type $f) (i64.const 0) (i32.const 0)))
  (type $f (func (param i64) (result i64)))
  (table 1 1 funcref)
  (elem (i32.const 0) $deeper)
  (func $deeper (param i64) (result i64)
    (i64.add (i64.const 1) (call_indirect (type $f) (i64.add (local.get 0) (i64.const 1)) (i32.const 0)))))
