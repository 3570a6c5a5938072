;; It takes all the memory it can get for each inbox.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\72hostile_inbox_grow\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 53))
  (func (export "wasilo_inbox") (param i32) (result i32) 
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (i32.const 8192))
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0x100000000001)))
