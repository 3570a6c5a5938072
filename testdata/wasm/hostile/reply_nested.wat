;; It replies with lists inside lists, half a million deep: no JSON of that.
(module
  (memory (export "memory") 20)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\74hostile_reply_nested\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 55))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (memory.fill (i32.const 65536) (i32.const 0x81) (i32.const 524288))
    (i32.store8 (i32.const 65536) (i32.const 0))
    (i64.const 0x1000000080000)))
