package forge

// Limits bound what Prepare accepts. A zero field means its default. The defaults leave room for what stock compilers
// make of large programs (measured: cmd/vet, a Go module of 14 MB, has 6,600 functions, 100,000 data segments, and nests
// 1,152 blocks) and keep what the runtime allocates and computes in proportion: its compiler is quadratic in the nesting
// and in the number of the blocks of a function, and decodes into up to 50 times the memory of the bytes.
type Limits struct {
	MaxSize      int // bytes of the file; 64 MiB
	MaxTypes     int // 20,000
	MaxImports   int // 1,000
	MaxFunctions int // without the imported ones; 200,000
	MaxTables    int // 16
	MaxGlobals   int // without the imported ones; 100,000
	MaxExports   int // 100,000
	MaxSegments  int // of data, and as many of elements; 200,000
	MaxElements  int // entries of all element segments together; 2,000,000: 8 bytes and a heap object each

	MaxParams     int // of a function type, and as many results; 1,000
	MaxLocals     int // of one function, without its parameters; 5,000
	MaxBody       int // bytes of one function; 8 MiB
	MaxBrTable    int // targets of one br_table, without the default; 65,520
	MaxNesting    int // blocks inside blocks of one function; 4,000 (Go nests a block for each call site of a function)
	MaxNestingSum int // over all blocks of the module, the depth at which each stands; 64 Mi: half a second of compiling

	// What the compiler, which cannot be stopped, does beyond each byte's worth, summed over the module: see flow.go. Beside each figure
	// stand what a unit of it takes, on one core of a quiet machine on which a KiB of Go's code takes 0.4 ms, and how many times the
	// limit has what the nearest of five stock Go programs needs (the example actors, gofmt, vet, link and go of cmd, 4 to 28 MB). Where
	// a sum grows with honest code, each byte of code up to there adds to the limit. cmd/compile, 49 MB, nests too deep.
	MaxBlocks        int // blocks, loops (which count eight times), ifs and br_ifs of one function; 32,000
	MaxBlocksSquared int // over the functions, that number × (that number + targets of br_tables); 2^26, and 64 a byte: 10 ns; 2.8 times
	MaxValues        int // of parameters, results and branches, where there are more than 16; 2^19: 0.5 µs and 430 bytes; Go has none
	MaxLocalsSum     int // locals and parameters of all functions; 2^24, and 2 a byte: 7 ns and 8 bytes; 600 times
	MaxWalks         int // blocks walked through in search of a definition; 2^25, and 16 a byte: 12 ns; 20 times
	MaxPhis          int // ways into blocks × the square of the values that differ there × loops around; 2^28, and 128 a byte: 1 ns; 12 times
	MaxLive          int // blocks × the values and addresses that are held there; 2^23, and 8 a byte: 20 to 120 ns and 14 bytes; 9 times
	MaxBehind        int // blocks × the values held at the heads of loops before them; 2^24, and 8 a byte: 20 to 40 ns and 8 bytes; 7 times
	MaxGlobalLoads   int // calls × mutable globals, with those that are added; 2^19, and 1 a byte: 0.1 µs and 170 bytes; 10 times
	MaxWide          int // functions × the blocks and targets of the largest before; 2^26, and 64 a byte: 10 ns; 26 times
	MaxCompiler      int // bytes that the compiler holds for one function, by estimate: see takes; 512 MiB; 5 times
	MaxSteps         int // of the estimate of the frames, which the forge itself takes: see stepped; 2^27, and 32 a byte: 1 to 2 ns; 10 times
	MaxPairs         int // functions × (types + globals + a sixteenth of the exports), with those that are added; 2^25: 9 ns; 56 times

	Memory     uint64 // bytes; the maximum of a memory is lowered to it, a minimum above it is refused; 64 MiB
	TableElems uint32 // entries; the maximum of a table is lowered to it, a minimum above it is refused; 1 Mi
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.MaxSize, 64<<20)
	def(&l.MaxTypes, 20_000)
	def(&l.MaxImports, 1_000)
	def(&l.MaxFunctions, 200_000)
	def(&l.MaxTables, 16)
	def(&l.MaxGlobals, 100_000)
	def(&l.MaxExports, 100_000)
	def(&l.MaxSegments, 200_000)
	def(&l.MaxElements, 2_000_000)
	def(&l.MaxParams, 1_000)
	def(&l.MaxLocals, 5_000)
	def(&l.MaxBody, 8<<20)
	def(&l.MaxBrTable, 65_520)
	def(&l.MaxNesting, 4_000)
	def(&l.MaxNestingSum, 64<<20)
	def(&l.MaxBlocks, 32_000)
	def(&l.MaxBlocksSquared, 1<<26)
	def(&l.MaxValues, 1<<19)
	def(&l.MaxLocalsSum, 1<<24)
	def(&l.MaxWalks, 1<<25)
	def(&l.MaxPhis, 1<<28)
	def(&l.MaxLive, 1<<23)
	def(&l.MaxBehind, 1<<24)
	def(&l.MaxGlobalLoads, 1<<19)
	def(&l.MaxWide, 1<<26)
	def(&l.MaxCompiler, 512<<20)
	def(&l.MaxSteps, 1<<27)
	def(&l.MaxPairs, 1<<25)
	if l.Memory == 0 {
		l.Memory = 64 << 20
	}
	l.Memory = min(l.Memory, maxPages*pageSize)
	if l.TableElems == 0 {
		l.TableElems = 1 << 20
	}
	return l
}

const (
	pageSize = 1 << 16
	maxPages = 1 << 16
)

// Reserved is the prefix of all names that the forge adds. A module that uses it in an import or an export is refused.
const Reserved = "wasilo_forge"

// The one import that the forge adds, of type () -> (): see the package's text for when it is called.
const (
	RefillModule = Reserved
	RefillName   = "refill"
)
