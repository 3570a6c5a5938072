/* A recursive-descent parser of JSON into a tree of nodes, over a text of some 2 KiB a round. */
#include "kernel.h"

enum kind { null, boolean, number, string, array, object };

struct node {
	enum kind kind;
	struct node *first, *next;
	double number;
	const char *text;
	uint32_t len, hash;
};

static struct node nodes[1024];
static int used;
static const char *at;
static int bad;

static const char member[] =
	"{\"id\": 17, \"name\": \"the \\\"quick\\\" brown fox\", \"tags\": [\"alpha\", \"beta\", \"gamma\", null, true, false],\n"
	"  \"position\": {\"x\": -12.5, \"y\": 3.25e2, \"z\": 0}, \"empty\": {}, \"list\": [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, [], [[]]],\n"
	"  \"note\": \"\\u0061 line\\nand another, long enough that a string's own loop counts\"}";
static char text[8 * sizeof member + 16];

static struct node *new_node(enum kind kind) {
	if (used == 1024) {
		bad = 1;
		used = 0;
	}
	struct node *n = &nodes[used++];
	n->kind = kind, n->first = 0, n->next = 0, n->hash = 0;
	return n;
}

static void space(void) {
	while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')
		at++;
}

static struct node *parse_string(void) {
	struct node *n = new_node(string);
	uint32_t hash = 2166136261u;
	n->text = ++at;
	for (; *at != '"'; at++) {
		if (*at == 0) {
			bad = 1;
			return n;
		}
		if (*at == '\\') {
			at++;
			if (*at == 'u')
				at += 4;
		}
		hash = (hash ^ (uint8_t)*at) * 16777619u;
	}
	n->len = (uint32_t)(at++ - n->text);
	n->hash = hash;
	return n;
}

static struct node *parse_number(void) {
	struct node *n = new_node(number);
	double v = 0, scale = 1;
	int negative = *at == '-', exponent = 0, minus = 0;
	at += negative;
	while (*at >= '0' && *at <= '9')
		v = v * 10 + (*at++ - '0');
	if (*at == '.')
		for (at++; *at >= '0' && *at <= '9'; at++)
			v += (*at - '0') * (scale /= 10);
	if (*at == 'e' || *at == 'E') {
		at++;
		if (*at == '-' || *at == '+')
			minus = *at++ == '-';
		while (*at >= '0' && *at <= '9')
			exponent = exponent * 10 + (*at++ - '0');
		while (exponent-- > 0)
			v = minus ? v / 10 : v * 10;
	}
	n->number = negative ? -v : v;
	return n;
}

static struct node *word(const char *w, enum kind kind) {
	for (; *w; w++)
		if (*at++ != *w)
			bad = 1;
	return new_node(kind);
}

static struct node *value(void) {
	space();
	switch (*at) {
	case '{':
	case '[': {
		int is_object = *at++ == '{';
		char close = is_object ? '}' : ']';
		struct node *n = new_node(is_object ? object : array), **last = &n->first;
		space();
		if (*at == close) {
			at++;
			return n;
		}
		for (;; at++) {
			if (is_object) {
				space();
				if (*at != '"')
					bad = 1;
				*last = parse_string();
				last = &(*last)->next;
				space();
				if (*at++ != ':')
					bad = 1;
			}
			if (bad)
				return n;
			*last = value();
			last = &(*last)->next;
			space();
			if (*at != ',')
				break;
		}
		if (*at++ != close)
			bad = 1;
		return n;
	}
	case '"':
		return parse_string();
	case 't':
		return word("true", boolean);
	case 'f':
		return word("false", boolean);
	case 'n':
		return word("null", null);
	}
	return parse_number();
}

static uint32_t digest(const struct node *n) {
	uint32_t d = n->kind * 31 + n->hash;
	if (n->kind == number)
		d += (uint32_t)(int32_t)(n->number * 4);
	for (const struct node *c = n->first; c; c = c->next)
		d = d * 33 + digest(c);
	return d;
}

KERNEL(json) {
	uint32_t d = 0;
	if (!text[0]) {
		char *to = text;
		*to++ = '[';
		for (int i = 0; i < 5; i++) {
			if (i)
				*to++ = ',';
			for (const char *c = member; *c; c++)
				*to++ = *c;
		}
		*to = ']';
	}
	while (rounds--) {
		at = text, used = 0, bad = 0;
		struct node *n = value();
		d = d * 7 + digest(n) + (uint32_t)bad;
	}
	return d;
}
