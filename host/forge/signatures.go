package forge

// Signatures of the instructions without immediates, from the tables of the specification: what is taken, a colon, what
// is left. i and I are i32 and i64, f and F are f32 and f64, v is v128. "" is no such instruction.

// signature is one, decoded.
type signature struct{ params, result []valType }

func parseSignature(s string) (out signature) {
	taken := true
	for _, c := range []byte(s) {
		var t valType
		switch c {
		case ':':
			taken = false
			continue
		case 'i':
			t = i32
		case 'I':
			t = i64
		case 'f':
			t = f32
		case 'F':
			t = f64
		case 'v':
			t = v128
		}
		if taken {
			out.params = append(out.params, t)
		} else {
			out.result = list1(t)
		}
	}
	return out
}

func parseSignatures(table []string) []signature {
	out := make([]signature, len(table))
	for i, s := range table {
		out[i] = parseSignature(s)
	}
	return out
}

var (
	plainOps  = parseSignatures(plainSignatures[:])
	satOps    = parseSignatures(satSignatures[:])
	vectorOps = parseSignatures(vectorSignatures[:])
)

// plainSignatures are of the comparisons, arithmetic and conversions from 0x45, i32.eqz, to 0xc4, i64.extend32_s.
var plainSignatures = [...]string{
	"i:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "I:i", "II:i", "II:i",
	"II:i", "II:i", "II:i", "II:i", "II:i", "II:i", "II:i", "II:i", "ff:i", "ff:i", "ff:i", "ff:i", "ff:i", "ff:i",
	"FF:i", "FF:i", "FF:i", "FF:i", "FF:i", "FF:i", "i:i", "i:i", "i:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i",
	"ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "ii:i", "I:I", "I:I", "I:I", "II:I", "II:I", "II:I",
	"II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "II:I", "f:f", "f:f", "f:f",
	"f:f", "f:f", "f:f", "f:f", "ff:f", "ff:f", "ff:f", "ff:f", "ff:f", "ff:f", "ff:f", "F:F", "F:F", "F:F", "F:F",
	"F:F", "F:F", "F:F", "FF:F", "FF:F", "FF:F", "FF:F", "FF:F", "FF:F", "FF:F", "I:i", "f:i", "f:i", "F:i", "F:i",
	"i:I", "i:I", "f:I", "f:I", "F:I", "F:I", "i:f", "i:f", "I:f", "I:f", "F:f", "i:F", "i:F", "I:F", "I:F", "f:F",
	"f:i", "F:I", "i:f", "I:F", "i:i", "i:i", "I:I", "I:I", "I:I",
}

// satSignatures are of 0xfc 0 to 0xfc 7, the conversions that do not trap.
var satSignatures = [...]string{
	"f:i", "f:i", "F:i", "F:i", "f:I", "f:I", "F:I", "F:I",
}

// vectorSignatures are of 0xfd 0 to 0xfd 255, those with immediates left out.
var vectorSignatures = [256]string{
	"", "", "", "", "", "", "", "", "", "", "", "", "", "", "vv:v", "i:v", "i:v", "i:v", "I:v", "f:v", "F:v", "", "",
	"", "", "", "", "", "", "", "", "", "", "", "", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "v:v", "vv:v", "vv:v", "vv:v", "vv:v", "vvv:v", "v:i", "", "", "",
	"", "", "", "", "", "", "", "v:v", "v:v", "v:v", "v:v", "v:v", "v:i", "v:i", "vv:v", "vv:v", "v:v", "v:v", "v:v",
	"v:v", "vi:v", "vi:v", "vi:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "v:v", "v:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "v:v", "vv:v", "v:v", "v:v", "v:v", "v:v", "v:v", "v:v", "vv:v", "v:i", "v:i", "vv:v", "vv:v", "v:v", "v:v",
	"v:v", "v:v", "vi:v", "vi:v", "vi:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "v:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "vv:v", "", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "v:v", "v:v", "", "v:i", "v:i", "", "", "v:v", "v:v",
	"v:v", "v:v", "vi:v", "vi:v", "vi:v", "vv:v", "", "", "vv:v", "", "", "", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "", "vv:v", "vv:v", "vv:v", "vv:v", "v:v", "v:v", "", "v:i", "v:i", "", "", "v:v", "v:v", "v:v", "v:v",
	"vi:v", "vi:v", "vi:v", "vv:v", "", "", "vv:v", "", "", "", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "vv:v", "vv:v", "vv:v", "v:v", "v:v", "", "v:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v",
	"vv:v", "v:v", "v:v", "", "v:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "vv:v", "v:v", "v:v",
	"v:v", "v:v", "v:v", "v:v", "v:v", "v:v",
}
