;; Its turn exits the program.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\6chostile_exit\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 47))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (call $exit (i32.const 3)) unreachable))
