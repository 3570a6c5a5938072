;; Its turn grows a table until it is refused, and then traps. The table has a maximum, above that of the host, so that a test can
;; run it without one.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\72hostile_table_full\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 53))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (table 10 1100000 funcref)
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $more
      (br_if $more (i32.ne (i32.const -1) (table.grow 0 (ref.null func) (i32.const 1000)))))
    unreachable))
