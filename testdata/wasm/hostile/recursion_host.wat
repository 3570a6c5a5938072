;; Its turn recurses to a depth of 50,000 again and again, and calls its host at every step.
(module
  (import "wasilo_1" "now" (func $now (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\76hostile_recursion_host\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 57))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $again (drop (call $deeper (i64.const 50000))) (br $again))
    unreachable)
  (func $deeper (param i64) (result i64)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 0))))
    (i64.add (call $now) (call $deeper (i64.sub (local.get 0) (i64.const 1))))))
