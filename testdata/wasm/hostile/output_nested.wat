;; It returns effects nested a million deep.
(module
  (memory (export "memory") 20)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\75hostile_output_nested\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 56))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (memory.fill (i32.const 65536) (i32.const 0x81) (i32.const 1048576))
    (i32.store8 (i32.const 65536) (i32.const 2))
    (i64.const 0x1000000100000)))
