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

	// Blocks, loops (which count eight times), ifs and br_ifs of one function, and the sum of the squares of that number
	// over all functions: the runtime's compiler is quadratic in it. 16,000 and 2^28: at most a few seconds of compiling,
	// where 13,000 ifs in a row take two and 52,000 a minute. cmd/vet has 2,162 and adds up to 2^26.
	MaxBlocks, MaxBlocksSquared int

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
	def(&l.MaxBlocks, 16_000)
	def(&l.MaxBlocksSquared, 1<<28)
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
