;; Its turn ends like a Go program that panics: a message on stderr, then an exit.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\6dhostile_panic\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 48))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func $turn (export "wasilo_turn") (param i32) (result i64)
    (drop (call $write (i32.const 2) (i32.const 2048) (i32.const 1) (i32.const 2060)))
    (call $exit (i32.const 2)) unreachable)
  (data (i32.const 2048) "\00\09\00\00\2e\00\00\00")
  (data (i32.const 2304) "panic: boom at last\0a\0agoroutine 1 [running]:\0a\0a"))
