;; It claims a hundred thousand effects.
(module
  (memory (export "memory") 8)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\75hostile_effects_flood\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 56))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0x80000040000))
  (data (i32.const 2048) "\02\9a\00\01\86\a0"))
