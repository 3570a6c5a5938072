;; Its turn fills all the memory it can get with randomness, again and again.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\73hostile_wasi_random\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 54))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (loop $again
      (drop (call $random_get (i32.const 65536) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 65536))))
      (br $again))
    unreachable))
