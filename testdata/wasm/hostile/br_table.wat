;; Its turn branches through a table of 64 places for ever.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\70hostile_br_table\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 51))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (loop $again
      (block $b0 (block $b1 (block $b2 (block $b3 (block $b4 (block $b5 (block $b6 (block $b7 (block $b8 (block $b9 (block $b10 (block $b11 (block $b12 (block $b13 (block $b14 (block $b15 (block $b16 (block $b17 (block $b18 (block $b19 (block $b20 (block $b21 (block $b22 (block $b23 (block $b24 (block $b25 (block $b26 (block $b27 (block $b28 (block $b29 (block $b30 (block $b31 (block $b32 (block $b33 (block $b34 (block $b35 (block $b36 (block $b37 (block $b38 (block $b39 (block $b40 (block $b41 (block $b42 (block $b43 (block $b44 (block $b45 (block $b46 (block $b47 (block $b48 (block $b49 (block $b50 (block $b51 (block $b52 (block $b53 (block $b54 (block $b55 (block $b56 (block $b57 (block $b58 (block $b59 (block $b60 (block $b61 (block $b62 (block $b63
        (br_table $b0 $b1 $b2 $b3 $b4 $b5 $b6 $b7 $b8 $b9 $b10 $b11 $b12 $b13 $b14 $b15 $b16 $b17 $b18 $b19 $b20 $b21 $b22 $b23 $b24 $b25 $b26 $b27 $b28 $b29 $b30 $b31 $b32 $b33 $b34 $b35 $b36 $b37 $b38 $b39 $b40 $b41 $b42 $b43 $b44 $b45 $b46 $b47 $b48 $b49 $b50 $b51 $b52 $b53 $b54 $b55 $b56 $b57 $b58 $b59 $b60 $b61 $b62 $b63 (i32.and (local.get 0) (i32.const 63)))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))
      (local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 1664525)) (i32.const 1013904223)))
      (br $again))
    unreachable))
