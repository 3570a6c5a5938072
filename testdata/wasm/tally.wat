;; A counter that is kept while it sleeps, kind `tally`: `add` counts one up and answers {"value": n}, `get` answers it. The count
;; is kept twice, in a global and in memory, and a turn traps if they differ.
(module
  ;; 0: what wasilo_describe returns; 1024: the count; 1032: the reply; 1056: the error; 4096 and up: the inbox
  (memory (export "memory") 1)
  (global $inbox i32 (i32.const 4096))
  (global $count (mut i64) (i64.const 0))

  (data (i32.const 0)
    "\a3\63abi\82\01\00\63sdk\63wat\65kinds\81"
    "\a5\64name\65tally\63doc\78\28Counts, and keeps count while it sleeps.\66events\82\64call\67message\67methods\82\a3\64name\63add\63doc\6eCounts one up.\69read_only\f4\a3\64name\63get\63doc\72Answers the count.\69read_only\f5\65state\a2\64keep\65image\65level\6bhibernating")
  ;; 0x00 {"value": a number of eight bytes}
  (data (i32.const 1032) "\00\a1\65value\1b")
  ;; 0x01 {0: 4 (unknown_method)}
  (data (i32.const 1056) "\01\a1\00\04")

  (func (export "wasilo_describe") (result i64) (i64.const 231))

  ;; The inbox starts at a fixed place; memory grows until it fits. 0 says that there is no memory.
  (func (export "wasilo_inbox") (param $n i32) (result i32)
    (local $pages i32)
    (local.set $pages (i32.shr_u (i32.add (local.get $n) (i32.const 69631)) (i32.const 16)))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then
        (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
          (then (return (i32.const 0))))))
    (global.get $inbox))

  ;; The event is a map; key 1 is the method. Everything else is skipped.
  (func (export "wasilo_turn") (param $n i32) (result i64)
    (local $pairs i32) (local $key i32) (local $method i32)
    (global.set $at (global.get $inbox))
    (drop (call $head))
    (local.set $pairs (global.get $value))
    (loop $pair
      (if (local.get $pairs)
        (then
          (drop (call $head))
          (local.set $key (global.get $value))
          (if (i32.eq (local.get $key) (i32.const 1))
            (then
              (drop (call $head))
              (local.set $method (global.get $at))
              (global.set $at (i32.add (global.get $at) (global.get $value))))
            (else (call $skip)))
          (local.set $pairs (i32.sub (local.get $pairs) (i32.const 1)))
          (br $pair))))
    (if (i32.eqz (local.get $method)) (then (return (call $pack (i32.const 1056) (i32.const 4)))))
    (if (i32.eq (i32.load8_u (local.get $method)) (i32.const 0x61)) ;; "a"dd
      (then
        (global.set $count (i64.add (global.get $count) (i64.const 1)))
        (i64.store (i32.const 1024) (i64.add (i64.load (i32.const 1024)) (i64.const 1)))))
    (if (i64.ne (global.get $count) (i64.load (i32.const 1024))) (then (unreachable)))
    (call $put (global.get $count))
    (call $pack (i32.const 1032) (i32.const 17)))

  ;; Writes the count into the reply, the highest byte first.
  (func $put (param $n i64)
    (local $k i32)
    (local.set $k (i32.const 8))
    (loop $next
      (local.set $k (i32.sub (local.get $k) (i32.const 1)))
      (i64.store8 (i32.add (i32.const 1041) (local.get $k)) (local.get $n))
      (local.set $n (i64.shr_u (local.get $n) (i64.const 8)))
      (br_if $next (local.get $k))))

  (func $pack (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))

  ;; The reader of CBOR: $at is where it is, $value the number that the last head carried (its low 32 bits).
  (global $at (mut i32) (i32.const 0))
  (global $value (mut i32) (i32.const 0))

  ;; Reads a head and returns its major type.
  (func $head (result i32)
    (local $first i32) (local $bytes i32)
    (local.set $first (i32.load8_u (global.get $at)))
    (global.set $at (i32.add (global.get $at) (i32.const 1)))
    (global.set $value (i32.and (local.get $first) (i32.const 31)))
    (if (i32.ge_u (global.get $value) (i32.const 24))
      (then
        (local.set $bytes (i32.shl (i32.const 1) (i32.sub (global.get $value) (i32.const 24))))
        (global.set $value (i32.const 0))
        (loop $more
          (global.set $value (i32.or (i32.shl (global.get $value) (i32.const 8)) (i32.load8_u (global.get $at))))
          (global.set $at (i32.add (global.get $at) (i32.const 1)))
          (br_if $more (local.tee $bytes (i32.sub (local.get $bytes) (i32.const 1)))))))
    (i32.shr_u (local.get $first) (i32.const 5)))

  ;; Skips an item with all that is in it.
  (func $skip
    (local $major i32) (local $items i32)
    (local.set $major (call $head))
    (if (i32.le_u (i32.sub (local.get $major) (i32.const 2)) (i32.const 1)) ;; bytes, text
      (then (global.set $at (i32.add (global.get $at) (global.get $value)))))
    (if (i32.le_u (i32.sub (local.get $major) (i32.const 4)) (i32.const 2)) ;; array, map, tag
      (then
        (local.set $items (global.get $value))
        (if (i32.eq (local.get $major) (i32.const 5)) (then (local.set $items (i32.shl (local.get $items) (i32.const 1)))))
        (if (i32.eq (local.get $major) (i32.const 6)) (then (local.set $items (i32.const 1))))
        (loop $item
          (if (local.get $items)
            (then
              (call $skip)
              (local.set $items (i32.sub (local.get $items) (i32.const 1)))
              (br $item))))))))
