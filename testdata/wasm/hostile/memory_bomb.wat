;; Its turn takes all the memory it can get, then traps.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\73hostile_memory_bomb\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 54))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))
