;; Kind `deep`: its start takes two megabytes of memory, and each turn calls itself 50,000 deep and comes back.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\64deep\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 39))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "_initialize") (drop (memory.grow (i32.const 31))))
  (func $down (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
    (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
  (func (export "wasilo_turn") (param i32) (result i64)
    (drop (call $down (i32.const 50000)))
    (i64.const 0x200000000001)))
