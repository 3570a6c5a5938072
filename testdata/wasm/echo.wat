;; The smallest actor worth calling, kind `echo`: the method `echo` answers with its payload, `fail` with the actor error
;; `failed`. It shows the whole of the ABI that a guest must know, in a language that hides nothing.
(module
  ;; 0: what wasilo_describe returns; 512 and up: the errors; 65536 and up: the inbox
  (memory (export "memory") 2)
  (global $inbox i32 (i32.const 65536))

  ;; {"abi": [1, 0], "sdk": "wat", "kinds": [{"name": "echo", "doc": …, "events": ["call", "message"], "methods": […]}]}
  (data (i32.const 0)
    "\a3\63abi\82\01\00\63sdk\63wat\65kinds\81"
    "\a4\64name\64echo\63doc\78\1dAnswers with what it is sent.\66events\82\64call\67message"
    "\67methods\82"
    "\a3\64name\64echo\63doc\74Answers its payload.\69read_only\f5"
    "\a3\64name\64fail\63doc\78\1eAnswers an error of the actor.\69read_only\f5")
  ;; 0x01 {1: "failed", 2: "asked to fail"}
  (data (i32.const 512) "\01\a2\01\66failed\02\6dasked to fail")
  ;; 0x01 {0: 4 (unknown_method)}
  (data (i32.const 544) "\01\a1\00\04")
  ;; 0x00: a reply without a payload
  (data (i32.const 548) "\00")

  (func (export "wasilo_describe") (result i64) (i64.const 204))

  ;; The inbox starts at a fixed place; memory grows until it fits. 0 says that there is no memory.
  (func (export "wasilo_inbox") (param $n i32) (result i32)
    (local $pages i32)
    (local.set $pages (i32.add (i32.shr_u (i32.add (local.get $n) (i32.const 65535)) (i32.const 16)) (i32.const 1)))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then
        (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
          (then (return (i32.const 0))))))
    (global.get $inbox))

  ;; The event is a map; its keys here: 1 is the method, 2 the payload. Everything else is skipped.
  (func (export "wasilo_turn") (param $n i32) (result i64)
    (local $pairs i32) (local $key i32)
    (local $method i32) (local $method_len i32) (local $payload i32) (local $payload_len i32)
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
              (local.set $method_len (global.get $value))
              (global.set $at (i32.add (global.get $at) (global.get $value))))
            (else (if (i32.eq (local.get $key) (i32.const 2))
              (then
                (drop (call $head))
                (local.set $payload (global.get $at))
                (local.set $payload_len (global.get $value))
                (global.set $at (i32.add (global.get $at) (global.get $value))))
              (else (call $skip)))))
          (local.set $pairs (i32.sub (local.get $pairs) (i32.const 1)))
          (br $pair))))
    (if (i32.eq (local.get $method_len) (i32.const 4))
      (then
        (if (i32.eq (i32.load (local.get $method)) (i32.const 0x6c696166)) ;; "fail"
          (then (return (call $pack (i32.const 512) (i32.const 25)))))
        (if (i32.eq (i32.load (local.get $method)) (i32.const 0x6f686365)) ;; "echo"
          (then
            (if (i32.eqz (local.get $payload))
              (then (return (call $pack (i32.const 548) (i32.const 1)))))
            ;; The byte before the payload belonged to the event and is read: it becomes that of the reply.
            (i32.store8 (i32.sub (local.get $payload) (i32.const 1)) (i32.const 0))
            (return (call $pack (i32.sub (local.get $payload) (i32.const 1)) (i32.add (local.get $payload_len) (i32.const 1))))))))
    (call $pack (i32.const 544) (i32.const 4)))

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
