/* Quicksort of 1,024 records through a comparison function, as qsort does: indirect calls and recursion. */
#include "kernel.h"

struct record {
	uint32_t key, value;
};

static struct record records[1024];

static int by_key(const void *a, const void *b) {
	const struct record *x = a, *y = b;
	return x->key < y->key ? -1 : x->key > y->key;
}

static int by_value(const void *a, const void *b) {
	const struct record *x = a, *y = b;
	return x->value < y->value ? -1 : x->value > y->value;
}

static void swap(struct record *a, struct record *b) {
	struct record t = *a;
	*a = *b;
	*b = t;
}

static void quicksort(struct record *a, int n, int (*compare)(const void *, const void *)) {
	while (n > 8) {
		swap(a, a + n / 2);
		int low = 0;
		for (int i = 1; i < n; i++)
			if (compare(a + i, a) < 0)
				swap(a + ++low, a + i);
		swap(a, a + low);
		quicksort(a, low, compare);
		a += low + 1, n -= low + 1;
	}
	for (int i = 1; i < n; i++)
		for (int j = i; j > 0 && compare(a + j, a + j - 1) < 0; j--)
			swap(a + j, a + j - 1);
}

static int (*volatile orders[])(const void *, const void *) = {by_key, by_value};

KERNEL(sort) {
	uint32_t seed = 2463534242u, sum = 0;
	while (rounds--) {
		for (int i = 0; i < 1024; i++)
			records[i].key = next(&seed), records[i].value = next(&seed);
		quicksort(records, 1024, orders[rounds & 1]);
		sum += records[17].key ^ records[1000].value;
	}
	return sum;
}
