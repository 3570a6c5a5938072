package forge

import (
	"os"
	"testing"
)

// Whoever keeps what was made of a prepared module by its hash finds nothing after the weights have changed: they are in its code.
func TestOtherWeightsMakeAnotherModule(t *testing.T) {
	wasm, err := os.ReadFile("../../testdata/wasm/echo.wasm")
	if err != nil {
		t.Fatal(err)
	}
	prepare := func() *Module {
		m, err := Prepare(wasm, Options{Meter: true})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := prepare()
	if again := prepare(); again.OutputSHA256 != before.OutputSHA256 {
		t.Fatal("the same weights make another module")
	}
	kept := plainWeights
	defer func() { plainWeights = kept }()
	for op := range plainWeights {
		plainWeights[op]++
	}
	if after := prepare(); after.OutputSHA256 == before.OutputSHA256 || after.InputSHA256 != before.InputSHA256 {
		t.Error("other weights make the same module")
	}
}
