;; Its turn copies all the memory it can get onto itself, a byte further and a byte back.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\74hostile_copy_overlap\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 55))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (local.set 0 (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 65537)))
    (loop $again
      (memory.copy (i32.const 65537) (i32.const 65536) (local.get 0))
      (memory.copy (i32.const 65536) (i32.const 65537) (local.get 0))
      (br $again))
    unreachable))
