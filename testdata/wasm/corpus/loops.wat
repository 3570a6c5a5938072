;; Loops and calls by hand: what metering can cost at worst. Each export takes a number of rounds.
(module
  (memory (export "memory") 4)
  (func (export "k_tight") (param i32) (result i32)
    (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 0))
  (func (export "k_sum") (param i32) (result i32) (local i32 i32)
    (loop $l
      (local.set 1 (i32.add (local.get 1) (i32.load (i32.and (local.get 2) (i32.const 0xfffc)))))
      (local.set 2 (i32.add (local.get 2) (i32.const 4)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "k_fib") (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.add (local.get 1) (call $fib (i32.const 12))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "k_sieve") (param i32) (result i32) (local i32 i32 i32)
    ;; over 64K, once a round
    (loop $outer
      (memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))
      (local.set 3 (i32.const 0))
      (local.set 1 (i32.const 2))
      (loop $i
        (if (i32.eqz (i32.load8_u (local.get 1)))
          (then
            (local.set 3 (i32.add (local.get 3) (i32.const 1)))
            (local.set 2 (i32.add (local.get 1) (local.get 1)))
            (block $done
            (loop $j
              (br_if $done (i32.ge_u (local.get 2) (i32.const 65536)))
              (i32.store8 (local.get 2) (i32.const 1))
              (local.set 2 (i32.add (local.get 2) (local.get 1)))
              (br $j)))))
        (br_if $i (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 65536))))
      (br_if $outer (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 3))
  (func $leaf (param i32) (result i32) (i32.xor (i32.mul (local.get 0) (i32.const 31)) (i32.const 7)))
  (func (export "k_leaf") (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (call $leaf (local.get 1)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
)
