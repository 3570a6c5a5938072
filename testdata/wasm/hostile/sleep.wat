;; Its turn sleeps for an hour: poll_oneoff with one relative clock subscription.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\6dhostile_sleep\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 48))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (drop (call $poll (i32.const 2048) (i32.const 3072) (i32.const 1) (i32.const 3200)))
    (loop $again (br $again)) unreachable)
  (data (i32.const 2072) "\00\a0\b8\30\46\03\00\00"))
