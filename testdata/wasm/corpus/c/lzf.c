/* Packs, or unpacks, 8 KiB of text a round with liblzf. */
#include "kernel.h"
#include "liblzf/lzf.h"

static uint8_t text[8192], packed[9000], again[8192];

static void fill(void) {
	static const char *words[] = {"actor ", "message ", "the ", "of ", "a silo ", "placement ", "epoch ", "with ", "turn ",
								  "is ", "lease ", "holds ", "in ", "state ", "reply ", "\n"};
	uint32_t seed = 88172645u;
	for (unsigned i = 0; i < sizeof text;)
		for (const char *w = words[next(&seed) >> 7 & 15]; *w && i < sizeof text; w++)
			text[i++] = (uint8_t)*w;
}

KERNEL(lzf_compress) {
	uint32_t n = 0;
	if (!text[0])
		fill();
	while (rounds--) {
		n = lzf_compress(text, sizeof text, packed, sizeof packed);
		text[n & 8191] ^= 1;
	}
	return n * 31 + packed[n / 2];
}

KERNEL(lzf_decompress) {
	static uint32_t n;
	uint32_t sum = 0;
	if (!text[0])
		fill();
	if (!n)
		n = lzf_compress(text, sizeof text, packed, sizeof packed);
	while (rounds--) {
		sum += lzf_decompress(packed, n, again, sizeof again);
		sum += again[sum & 8191];
	}
	return sum;
}
