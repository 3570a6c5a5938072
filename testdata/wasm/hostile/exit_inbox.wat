;; It exits where it should provide an inbox.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\72hostile_exit_inbox\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 53))
  (func (export "wasilo_inbox") (param i32) (result i32) (call $proc_exit (i32.const 9)) unreachable)
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.const 0)))
