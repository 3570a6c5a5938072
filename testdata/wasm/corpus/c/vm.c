/* A stack machine that counts the primes below 126 by a program in its byte code, once a round. */
#include "kernel.h"

enum { PUSH, LOAD, STORE, ADD, SUB, MUL, MOD, LESS, JUMP, JUMP_ZERO, GET, PUT, DUP, POP, CALL, RETURN, HALT };

static int32_t data[256];

/* 0: i, 1: j, 2: count */
static const int8_t program[] = {
	PUSH, 2, STORE, 0,
	/* 4: clear */ LOAD, 0, PUSH, 0, PUT, LOAD, 0, PUSH, 1, ADD, STORE, 0, LOAD, 0, PUSH, 127, LESS, JUMP_ZERO, 25, JUMP, 4,
	/* 25 */ PUSH, 2, STORE, 0, PUSH, 0, STORE, 2,
	/* 33: outer */ LOAD, 0, PUSH, 126, LESS, JUMP_ZERO, 88,
	LOAD, 0, GET, JUMP_ZERO, 49, JUMP, 79, HALT, HALT,
	/* 49: a prime */ CALL, 89, LOAD, 0, LOAD, 0, ADD, STORE, 1,
	/* 58: inner */ LOAD, 1, PUSH, 127, LESS, JUMP_ZERO, 79,
	LOAD, 1, PUSH, 1, PUT, LOAD, 1, LOAD, 0, ADD, STORE, 1, JUMP, 58,
	/* 79 */ LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 33,
	/* 88 */ HALT,
	/* 89: count */ LOAD, 2, PUSH, 1, ADD, STORE, 2, RETURN};

static int32_t run(int32_t *locals) {
	int32_t stack[64];
	int sp = 0, pc = 0, calls[16], depth = 0;
	for (;;)
		switch (program[pc++]) {
		case PUSH: stack[sp++] = program[pc++]; break;
		case LOAD: stack[sp++] = locals[program[pc++]]; break;
		case STORE: locals[program[pc++]] = stack[--sp]; break;
		case ADD: sp--; stack[sp - 1] += stack[sp]; break;
		case SUB: sp--; stack[sp - 1] -= stack[sp]; break;
		case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
		case MOD: sp--; stack[sp - 1] %= stack[sp]; break;
		case LESS: sp--; stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
		case JUMP: pc = program[pc]; break;
		case JUMP_ZERO: pc = stack[--sp] ? pc + 1 : program[pc]; break;
		case GET: stack[sp - 1] = data[stack[sp - 1] & 255]; break;
		case PUT: sp -= 2; data[stack[sp] & 255] = stack[sp + 1]; break;
		case DUP: stack[sp] = stack[sp - 1]; sp++; break;
		case POP: sp--; break;
		case CALL: calls[depth++ & 15] = pc + 1; pc = program[pc]; break;
		case RETURN: pc = calls[--depth & 15]; break;
		default: return locals[2];
		}
}

KERNEL(vm) {
	uint32_t sum = 0;
	while (rounds--) {
		int32_t locals[4] = {0};
		sum = sum * 3 + (uint32_t)run(locals);
	}
	return sum;
}
