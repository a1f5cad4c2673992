#include "guest/kernel/usercopy.h"

#include "guest/kernel/errno.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/trap.h"
#include "guest/kernel/vma.h"

/* Copies until done or until an address faults; returns the number of bytes left. */
static size_t copy_until_fault(void *dst, const void *src, size_t len)
{
    uint64_t d = (uint64_t)dst, s = (uint64_t)src, words = len / 8;

    __asm__ volatile(USER_ACCESS_BEGIN "1: rep movsq\n\t"
                                       "movq %[tail], %%rcx\n\t"
                                       "2: rep movsb\n\t"
                                       "3:\n\t" USER_ACCESS_END EXTABLE("1b", "3b")
                                           EXTABLE("2b", "3b")
                     : "+D"(d), "+S"(s), "+c"(words)
                     : [tail] "r"(len % 8)
                     : "memory");
    return len - (d - (uint64_t)dst);
}

static int range_ok(uint64_t addr, size_t len)
{
    uint64_t end;

    return __builtin_add_overflow(addr, len, &end) || end > VM_HIGHEST ? -EFAULT : 0;
}

static int accessible(uint64_t addr, size_t len, bool write)
{
    struct vm *vm = proc_vm(proc_current());
    uint64_t end = addr + len;

    if (range_ok(addr, len) != 0)
        return -EFAULT;
    for (; addr < end; addr = (addr & -PAGE_SIZE) + PAGE_SIZE)
        if (!vm_access(vm, addr, write))
            return -EFAULT;
    return 0;
}

int user_readable(uint64_t addr, size_t len)
{
    return accessible(addr, len, false);
}

int user_writable(uint64_t addr, size_t len)
{
    return accessible(addr, len, true);
}

/* The copy may miss a page that is there once more, while it is being moved (move.c). */
int copy_from_user(void *dst, uint64_t src, size_t len)
{
    size_t left;

    if (range_ok(src, len) != 0)
        return -EFAULT;
    while ((left = copy_until_fault(dst, (const void *)src, len)) != 0) {
        dst = (char *)dst + (len - left);
        src += len - left;
        len = left;
        if (user_readable(src, left) != 0)
            return -EFAULT;
    }
    return 0;
}

int copy_to_user(uint64_t dst, const void *src, size_t len)
{
    size_t left;

    if (range_ok(dst, len) != 0)
        return -EFAULT;
    while ((left = copy_until_fault((void *)dst, src, len)) != 0) {
        src = (const char *)src + (len - left);
        dst += len - left;
        len = left;
        if (user_writable(dst, left) != 0)
            return -EFAULT;
    }
    return 0;
}
