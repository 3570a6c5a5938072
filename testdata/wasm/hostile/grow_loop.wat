;; Its turn asks for no memory, for a page and for far too much, for ever.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\71hostile_grow_loop\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 52))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $again
      (drop (memory.grow (i32.const 0)))
      (drop (memory.grow (i32.const -1)))
      (drop (memory.grow (i32.const 65535)))
      (drop (memory.grow (i32.const 1)))
      (br $again))
    unreachable))
