;; Its effects end in the middle.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\78\19hostile_effects_malformed\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 61))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0x80000000004))
  (data (i32.const 2048) "\02\82\a1\00"))
