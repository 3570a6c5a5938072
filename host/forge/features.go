package forge

import "strings"

// Features are parts of WebAssembly beyond the first version.
type Features uint32

// What [Module.Features] tells: for people, all of them are accepted.
const (
	MultiValue Features = 1 << iota
	SaturatingFloatToInt
	BulkMemory
	ReferenceTypes
	SIMD
)

func (f Features) String() string {
	var names []string
	for i, name := range []string{"multi-value", "nontrapping-fptoint", "bulk-memory", "reference-types", "simd128"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
