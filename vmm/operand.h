/*
 * The memory that one instruction touches, from its bytes and the registers before it. For naming
 * what a stopped vCPU was about to do; nothing is executed, and nothing depends on it.
 */
#ifndef TWOFOLD_VMM_OPERAND_H
#define TWOFOLD_VMM_OPERAND_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPERANDS_MAX 3

struct operand {
    uint64_t linear; /* address of its first byte, segment base included */
    bool write;      /* it is written (and perhaps read before) */
};

/*
 * Takes up to 15 bytes at RIP. Gives how many operands were found, into out[]: ModRM and
 * moffs operands, those of string instructions, and the stack. Intel SDM volume 2, "Instruction
 * Format". 16-bit addressing, gathers and the implied operands of rare instructions are left
 * out.
 */
size_t operand_list(const uint8_t *code, size_t len, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs, struct operand out[OPERANDS_MAX]);

#endif
