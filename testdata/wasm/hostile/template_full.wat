;; Its start takes all the memory it can get and fills it with what no compression makes smaller; each turn writes to all of it.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\75hostile_template_full\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 56))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (local.set 0 (i32.const 65536))
    (loop $page
      (i32.store (local.get 0) (i32.const 1))
      (local.set 0 (i32.add (local.get 0) (i32.const 4096)))
      (br_if $page (i32.lt_u (local.get 0) (i32.shl (memory.size) (i32.const 16)))))
    (i64.const 0x100000000001))
  (func (export "_initialize") (local i32 i64)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (local.set 1 (i64.const 88172645463325252))
    (local.set 0 (i32.const 65536))
    (loop $word
      (local.set 1 (i64.xor (local.get 1) (i64.shl (local.get 1) (i64.const 13))))
      (local.set 1 (i64.xor (local.get 1) (i64.shr_u (local.get 1) (i64.const 7))))
      (local.set 1 (i64.xor (local.get 1) (i64.shl (local.get 1) (i64.const 17))))
      (i64.store (local.get 0) (local.get 1))
      (local.set 0 (i32.add (local.get 0) (i32.const 8)))
      (br_if $word (i32.lt_u (local.get 0) (i32.shl (memory.size) (i32.const 16)))))))
