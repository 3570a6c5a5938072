;; A module whose every function has a name, which ends in a way that run's argument chooses. Built by
;; wat2wasm --debug-names -o traced.wasm traced.wat
(module $guest
  (type $t (func (param i32)))
  (memory 1)
  (table 4 funcref)
  (elem (i32.const 1) $deep $other)

  (func $run (export "run") (param i32)
    (call $middle (local.get 0)))

  ;; Through the table: above 9 what stands at the argument less 10, else $deep.
  (func $middle (param i32)
    (call_indirect (type $t)
      (local.get 0)
      (select (i32.sub (local.get 0) (i32.const 10)) (i32.const 1) (i32.gt_u (local.get 0) (i32.const 9)))))

  (func $deep (param i32)
    (if (i32.eq (local.get 0) (i32.const 1)) (then (memory.fill (i32.const 60000) (i32.const 0) (i32.const 10000))))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (memory.fill (i32.const 0) (i32.const 0) (i32.const 100000))))
    (if (i32.eq (local.get 0) (i32.const 3)) (then (loop (br 0))))
    (if (i32.eq (local.get 0) (i32.const 4)) (then (call $run (i32.const 1))))
    unreachable)

  (func $other))
