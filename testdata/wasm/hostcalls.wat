;; Kind `hostcalls`: calls the host as the payload of its one method `run` says, so that a test can try every import with
;; every argument. The payload, which is no CBOR here, holds
;;
;;   count u32, then count records of 24 bytes: op u32, a u32, b u32, c u32, d i64 (little-endian), then data
;;
;; and lands at 65536, whatever the event around it. The reply is 8 bytes of result a record, then 1 KiB of memory
;; from 32768, which records may name as a destination.
;;
;; ops: 0 request(a,b,c,d) 1 start(a,b) 2 wait(a,b,c,d) 3 take(a,b,c) 4 kv_get(a,b,c,d) 5 kv_range(a,b,c,d) 6 now()
;; 7 random(a,b) 8 log(a,b,c) 20 fd_write(a,b,c,d) 21 poll_oneoff(a,b,c,d) 22 random_get(a,b) 23 clock_time_get(a,0,b)
;; 30 memory.grow(a) 31 unreachable 32 proc_exit(a) 33 a loop without end
(module
  (import "wasilo_1" "request" (func $request (param i32 i32 i32 i32) (result i64)))
  (import "wasilo_1" "start" (func $start (param i32 i32) (result i64)))
  (import "wasilo_1" "wait" (func $wait (param i32 i32 i32 i64) (result i64)))
  (import "wasilo_1" "take" (func $take (param i32 i32 i32) (result i64)))
  (import "wasilo_1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i64)))
  (import "wasilo_1" "kv_range" (func $kv_range (param i32 i32 i32 i32) (result i64)))
  (import "wasilo_1" "now" (func $now (result i64)))
  (import "wasilo_1" "random" (func $random (param i32 i32) (result i64)))
  (import "wasilo_1" "log" (func $log (param i32 i32 i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; 0: the description; 16384: the reply; 32768: destinations; 65536: the payload; 131072: the inbox
  (memory (export "memory") 4)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\69hostcalls\66events\82\64call\67message")
  (func (export "wasilo_describe") (result i64) (i64.const 52))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 131072))

  (func (export "wasilo_turn") (param $n i32) (result i64)
    (local $records i32) (local $record i32) (local $result i32)
    (call $payload (local.get $n))
    (local.set $records (i32.load (i32.const 65536)))
    (local.set $record (i32.const 65540))
    (local.set $result (i32.const 16385))
    (i32.store8 (i32.const 16384) (i32.const 0))
    (loop $next
      (if (local.get $records)
        (then
          (i64.store (local.get $result)
            (call $run
              (i32.load (local.get $record)) (i32.load offset=4 (local.get $record)) (i32.load offset=8 (local.get $record))
              (i32.load offset=12 (local.get $record)) (i64.load offset=16 (local.get $record))))
          (local.set $records (i32.sub (local.get $records) (i32.const 1)))
          (local.set $record (i32.add (local.get $record) (i32.const 24)))
          (local.set $result (i32.add (local.get $result) (i32.const 8)))
          (br $next))))
    (memory.copy (local.get $result) (i32.const 32768) (i32.const 1024))
    (i64.or (i64.const 0x400000000000)
      (i64.extend_i32_u (i32.sub (i32.add (local.get $result) (i32.const 1024)) (i32.const 16384)))))

  (func $run (param $op i32) (param $a i32) (param $b i32) (param $c i32) (param $d i64) (result i64)
    (local $d32 i32)
    (local.set $d32 (i32.wrap_i64 (local.get $d)))
    (if (i32.eq (local.get $op) (i32.const 0))
      (then (return (call $request (local.get $a) (local.get $b) (local.get $c) (local.get $d32)))))
    (if (i32.eq (local.get $op) (i32.const 1))
      (then (return (call $start (local.get $a) (local.get $b)))))
    (if (i32.eq (local.get $op) (i32.const 2))
      (then (return (call $wait (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (if (i32.eq (local.get $op) (i32.const 3))
      (then (return (call $take (local.get $a) (local.get $b) (local.get $c)))))
    (if (i32.eq (local.get $op) (i32.const 4))
      (then (return (call $kv_get (local.get $a) (local.get $b) (local.get $c) (local.get $d32)))))
    (if (i32.eq (local.get $op) (i32.const 5))
      (then (return (call $kv_range (local.get $a) (local.get $b) (local.get $c) (local.get $d32)))))
    (if (i32.eq (local.get $op) (i32.const 6))
      (then (return (call $now))))
    (if (i32.eq (local.get $op) (i32.const 7))
      (then (return (call $random (local.get $a) (local.get $b)))))
    (if (i32.eq (local.get $op) (i32.const 8))
      (then (call $log (local.get $a) (local.get $b) (local.get $c)) (return (i64.const 0))))
    (if (i32.eq (local.get $op) (i32.const 20))
      (then (return (i64.extend_i32_u (call $fd_write (local.get $a) (local.get $b) (local.get $c) (local.get $d32))))))
    (if (i32.eq (local.get $op) (i32.const 21))
      (then (return (i64.extend_i32_u (call $poll_oneoff (local.get $a) (local.get $b) (local.get $c) (local.get $d32))))))
    (if (i32.eq (local.get $op) (i32.const 22))
      (then (return (i64.extend_i32_u (call $random_get (local.get $a) (local.get $b))))))
    (if (i32.eq (local.get $op) (i32.const 23))
      (then (return (i64.extend_i32_u (call $clock_time_get (local.get $a) (i64.const 0) (local.get $b))))))
    (if (i32.eq (local.get $op) (i32.const 30))
      (then (return (i64.extend_i32_s (memory.grow (local.get $a))))))
    (if (i32.eq (local.get $op) (i32.const 31))
      (then unreachable))
    (if (i32.eq (local.get $op) (i32.const 32))
      (then (call $proc_exit (local.get $a))))
    (if (i32.eq (local.get $op) (i32.const 33))
      (then (loop $ever (br $ever))))
    (i64.const -99))

  ;; Moves the payload of the event to 65536. It is the value of key 2, which the host writes after keys 0 and 1: a small
  ;; number and a short text.
  (func $payload (param $n i32)
    (local $at i32) (local $head i32) (local $len i32) (local $bytes i32)
    (local.set $at (i32.const 131075)) ;; past the map's head and 0: tag
    (local.set $at (i32.add (local.get $at) (i32.add (i32.const 2) (i32.and (i32.load8_u offset=1 (local.get $at)) (i32.const 31)))))
    (local.set $head (i32.and (i32.load8_u offset=1 (local.get $at)) (i32.const 31)))
    (local.set $at (i32.add (local.get $at) (i32.const 2)))
    (local.set $len (local.get $head))
    (if (i32.ge_u (local.get $head) (i32.const 24))
      (then
        (local.set $bytes (i32.shl (i32.const 1) (i32.sub (local.get $head) (i32.const 24))))
        (local.set $len (i32.const 0))
        (loop $more
          (local.set $len (i32.or (i32.shl (local.get $len) (i32.const 8)) (i32.load8_u (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $more (local.tee $bytes (i32.sub (local.get $bytes) (i32.const 1)))))))
    (memory.copy (i32.const 65536) (local.get $at) (local.get $len))))
