;; Lacks wasilo_turn.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\76hostile_missing_export\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 57))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096)))
