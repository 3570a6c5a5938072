package main

import "github.com/wasilo/wasilo/tools/chaos/verdict"

func report(rec *record, ops []verdict.Op, s *summary) ([]byte, error) { return nil, nil }
