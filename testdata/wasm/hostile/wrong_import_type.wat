;; Imports `now` with a parameter that it does not have.
(module
  (import "wasilo_1" "now" (func (param i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\78\19hostile_wrong_import_type\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 61))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64) (i64.const 0)))
