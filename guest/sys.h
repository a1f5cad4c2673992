/*
 * The system calls of the tiny guest: numbers, structures and exit codes that its
 * kernel and its user programs share. The error numbers are in errno.h.
 *
 * SYSCALL with the number in RAX and arguments in RDI, RSI, RDX, R10, R8, R9.
 * RAX returns the result, or a negative error number (-1 to -4095). RCX and R11 are lost,
 * as the instruction has it; all other registers are kept.
 */
#ifndef TWOFOLD_GUEST_SYS_H
#define TWOFOLD_GUEST_SYS_H

#include <stdint.h>

#include "guest/kernel/errno.h"

enum sys_number {
    SYS_EXIT,     /* (code): ends the process; never returns */
    SYS_WRITE,    /* (fd, buf, len): bytes written */
    SYS_READ,     /* (fd, buf, len): waits for one byte or more; bytes read */
    SYS_SPAWN,    /* (args, len, flags): starts a program; its pid */
    SYS_FORK,     /* (flags): 0 in the child, its pid in the parent; SYS_SHARE has three more */
    SYS_WAIT,     /* (pid or -1, struct sys_status *): waits for a child's end; its pid */
    SYS_KILL,     /* (pid): ends another process with SYS_CODE_KILLED */
    SYS_YIELD,    /* (): lets another process run */
    SYS_SLEEP,    /* (ns): sleeps at least so long */
    SYS_CLOCK,    /* (): nanoseconds since the kernel started */
    SYS_GETPID,   /* () */
    SYS_GETCPU,   /* (): number of the CPU that runs the caller, from 0 */
    SYS_PIN,      /* (cpu or -1): run on this CPU only; -1: on any */
    SYS_MMAP,     /* (addr or 0, len, prot, flags): address of zeroed memory */
    SYS_MUNMAP,   /* (addr, len) */
    SYS_MPROTECT, /* (addr, len, prot) */
    SYS_INFO,     /* (what, index, buf, len): bytes of one SYS_INFO_* record */
    SYS_SELFTEST, /* (index, struct sys_selftest *): runs one of the kernel's checks of itself;
                   ENOENT after the last */
    SYS_EXEC,     /* (args, len): becomes that program; returns only when it can't be started */
    SYS_BLOCK,    /* (SYS_BLOCK_* op, disk, sector, buf, sectors): see there */
    SYS_RANDOM,   /* (buf, len): random bytes of the first virtio-rng; len, or ENODEV, EIO */
    SYS_DMA,      /* (struct sys_dma *): the DMA test device and what it may reach */
    SYS_COUNT,
};

/*
 * Exit codes that the kernel gives; a program that dies of exception N ends
 * with TF_EXIT_FAULT_BASE + N (guest/abi.h), 64..95.
 */
enum sys_code {
    SYS_CODE_NO_PROGRAM = 120, /* the program from the command line can't be started */
    SYS_CODE_KILLED = 121,     /* SYS_KILL */
    SYS_CODE_ABORT = 122,      /* abort() of the library */
};

/* File descriptors: the console is all there is. */
enum sys_fd { SYS_STDIN, SYS_STDOUT, SYS_STDERR };

/*
 * SYS_SPAWN's and SYS_EXEC's `args`: the program's name and its arguments, each closed by a
 * NUL byte, `len` bytes in all.
 */
#define SYS_ARGS_MAX 2048u

/* Flags of SYS_SPAWN and SYS_FORK. */
#define SYS_QUIET 1u /* no line on the console when it dies; its children inherit that */
/*
 * Of SYS_FORK alone: (flags, entry, stack top, argument). The child has no memory of its own but
 * uses the caller's address space, from `entry` on, with RDI = argument. It is for a CPU that
 * computes there: no page that is missing is supplied to it, and to map, unmap, protect and fork is
 * refused to it with EPERM. It may outlive the caller.
 */
#define SYS_SHARE 2u

/* Protection of memory; a mapping that is writable and executable is refused. */
#define SYS_PROT_NONE  0u
#define SYS_PROT_READ  1u
#define SYS_PROT_WRITE 2u
#define SYS_PROT_EXEC  4u

/* Flags of SYS_MMAP. */
#define SYS_MAP_FIXED 1u /* at `addr` exactly, which must be free */
#define SYS_MAP_LARGE 2u /* 2 MiB pages: addr and len must be multiples of that, also later */
#define SYS_MAP_LAZY  4u /* pages come when they are touched, not now */
#define SYS_MAP_HUGE                                                                \
    8u /* the same with 1 GiB pages; ENOTSUP where the CPU has none, ENOMEM when no \
          aligned GiB of RAM is free as a whole */

/*
 * SYS_BLOCK: disks count from 0 in the order of the scan, sectors are of 512 bytes. `buf` is a
 * multiple of 512, and the device reads and writes the process's own pages. ENODEV: no such disk;
 * EINVAL: no sectors, or beyond the end; EROFS; EIO: the device failed. A transfer that fails may
 * have been made in part.
 */
enum sys_block_op {
    SYS_BLOCK_SIZE,  /* sectors of the disk; its struct sys_disk to `buf`, unless that is 0 */
    SYS_BLOCK_READ,  /* sectors to `buf`; how many */
    SYS_BLOCK_WRITE, /* the other way */
    SYS_BLOCK_FLUSH, /* what was written before lasts now; 0 */
};

#define SYS_SECTOR_SIZE 512u

struct sys_disk {
    uint64_t sectors;
    uint32_t read_only; /* 1: it takes no writes */
    uint32_t flushes;   /* 1: it has a cache that SYS_BLOCK_FLUSH empties */
    uint16_t bdf;       /* of struct sys_pci */
    uint16_t reserved[3];
};

/* How a child ended. */
struct sys_status {
    int32_t pid;
    int32_t code;    /* exit code, 0..255 */
    int32_t vector;  /* the exception that ended it, or -1 */
    uint32_t error;  /* its error code */
    uint64_t rip;    /* where it happened */
    uint64_t addr;   /* page fault: the address (CR2) */
    uint64_t cpu_ns; /* time on a CPU */
};

/* One of the kernel's checks of itself. */
struct sys_selftest {
    uint32_t passed;
    char name[60];
    char detail[128]; /* what was wrong first; "" if it passed */
};

enum sys_info_what {
    SYS_INFO_GENERAL, /* struct sys_info; index 0 */
    SYS_INFO_MEMORY,  /* struct sys_memory of range `index`; ENOENT after the last */
    SYS_INFO_CPU,     /* struct sys_cpu of CPU `index`; ENOENT after the last */
    SYS_INFO_TIME,    /* struct sys_time of start-up stage `index`; ENOENT after the last */
    SYS_INFO_FILE,    /* struct sys_file of the initrd's file `index`; ENOENT after the last */
    SYS_INFO_PCI,     /* struct sys_pci of function `index`; ENOENT after the last */
};

struct sys_info {
    uint64_t ram_bytes;           /* usable, as the boot loader said */
    uint64_t mem_total, mem_free; /* bytes that the page allocator has */
    uint64_t heap_objects;        /* in use in the kernel's heap */
    uint64_t tsc_hz;
    uint64_t initrd_gpa, initrd_bytes;
    uint32_t initrd_builtin; /* 1: the one inside the kernel's image */
    uint32_t cpus;           /* online */
    uint32_t processes;      /* that exist now */
    uint32_t started;        /* processes since the start */
    uint32_t reserved;
    uint32_t features; /* SYS_FEATURE_*: what the kernel found and uses */
    char cpu_vendor[16];
    char cpu_name[52];   /* brand string; may be empty */
    char hypervisor[16]; /* signature of CPUID leaf 0x40000000; empty without one */
};

#define SYS_FEATURE_SMEP     (1u << 0)
#define SYS_FEATURE_SMAP     (1u << 1)
#define SYS_FEATURE_UMIP     (1u << 2)
#define SYS_FEATURE_PCID     (1u << 3)
#define SYS_FEATURE_INVPCID  (1u << 4)
#define SYS_FEATURE_FSGSBASE (1u << 5)
#define SYS_FEATURE_1G       (1u << 6)
#define SYS_FEATURE_X2APIC   (1u << 7)
#define SYS_FEATURE_CONSOLE  (1u << 8) /* twofold's console port */
#define SYS_FEATURE_ZEROED   (1u << 9) /* twofold: fresh RAM reads as zero */

struct sys_memory {
    uint64_t start, end; /* end is exclusive */
    uint32_t type;       /* as in e820: 1 usable, 2 reserved, ... */
    uint32_t reserved;
};

struct sys_cpu {
    uint32_t number, apic_id;
    uint64_t switches; /* context switches on it */
    uint64_t idle_ns;
};

struct sys_time {
    uint64_t ns; /* at the stage's end, since the kernel's first line of C */
    char stage[24];
};

struct sys_file {
    uint64_t size;
    uint32_t program; /* 1: it looks like one (ELF) */
    uint32_t reserved;
    char name[104];
};

struct sys_pci_bar {
    uint64_t addr, size; /* size 0: none */
    uint32_t io;         /* 1: ports */
    uint32_t wide;       /* 1: 64 bits, takes the next one's register too */
};

/* The interrupts that a PCI function has, and those that its driver uses. */
enum sys_pci_interrupt { SYS_PCI_NONE, SYS_PCI_INTX, SYS_PCI_MSI, SYS_PCI_MSIX };

#define SYS_PCI_BUS(bdf)      ((unsigned)(bdf) >> 8)
#define SYS_PCI_DEVICE(bdf)   ((unsigned)(bdf) >> 3 & 31)
#define SYS_PCI_FUNCTION(bdf) ((unsigned)(bdf)&7)

struct sys_pci {
    uint16_t bdf; /* bus << 8 | device << 3 | function */
    uint16_t vendor, id;
    uint8_t revision;
    uint8_t iommu;    /* 1: it stands behind the IOMMU */
    uint32_t class;   /* 24 bits: class, subclass, interface */
    uint16_t vectors; /* interrupts in use; 0: none */
    uint16_t vectors_max;
    uint8_t first_vector; /* of the CPU */
    uint8_t offers, uses; /* enum sys_pci_interrupt */
    uint8_t reserved;
    uint16_t command; /* the register */
    uint16_t reserved2;
    char driver[24]; /* "": nobody's */
    struct sys_pci_bar bar[6];
};

/*
 * SYS_DMA. The device can be aimed at any address, which is what it is there for. So where nothing
 * translates its addresses this call is as good as all of memory; the tiny guest has no users to
 * keep apart, and a system that had would give it to root alone.
 *
 * `op` says which of the other fields count; those it gives back are marked "->". Errors of all:
 * EFAULT, EINVAL (unknown op, flags that have no meaning, ranges that can't be), ENOENT (no such
 * device, or the device has nothing of the kind), ENOMEM.
 */
enum sys_dma_op {
    SYS_DMA_INFO,     /* addr, len: a struct sys_dma_info is copied there */
    SYS_DMA_MAP,      /* addr, len: the caller's memory, flags READ, WRITE: what the device may;
                         AT: at iova, else -> iova. The pages stay where they are meanwhile */
    SYS_DMA_UNMAP,    /* iova: as SYS_DMA_MAP gave it; all of that mapping */
    SYS_DMA_IDENTITY, /* maps all RAM at iova = gpa; flags OFF takes it back */
    SYS_DMA_TRANSFER, /* iova, len, flags TO_MEMORY, OWN_MEMORY, PAGE_REQUESTS; offset: on the
                         device's side; -> value: enum tf_edu_error, as far as the device says.
                         EIO: no end was seen in time */
    SYS_DMA_FAULTS,   /* addr, len: struct sys_dma_fault of number `value` + 1 on, as many as there
                         are and fit; returns how many */
    SYS_DMA_RAISE, /* value: bits for IRQ_STATUS; waits for the interrupt, -> value: its bits; len:
                      TSC cycles from the write to the handler, 0 when the driver has no vector */
    SYS_DMA_COMPUTE, /* value: a number, -> value: its factorial, modulo 2^32 */
    SYS_DMA_LIVE,    /* value: 32 bits, -> value: what the liveness register makes of them */
    SYS_DMA_WATCH,   /* the kernel raises the watched interrupt (sys_dma_info) itself */
    SYS_DMA_PEEK,    /* iova: a gpa in RAM, len up to a page: copied to addr */
    SYS_DMA_VICTIM,  /* the kernel's page gets its content back; -> iova: its gpa */
    SYS_DMA_PLACE,   /* addr: a page of the caller's; iova, len: a range of RAM. The page moves to a
                        gpa inside, its content is lost. -> value: its gpa */
    SYS_DMA_GPA,     /* addr: -> value: its gpa */
    SYS_DMA_SHARE,   /* len: memory that the caller and the device share; -> addr, iova */
    SYS_DMA_UNSHARE, /* takes it back */
    SYS_DMA_SHARED,  /* addr, len: a struct sys_dma_shared is copied there */
};

#define SYS_DMA_READ          1u /* by the device */
#define SYS_DMA_WRITE         2u
#define SYS_DMA_AT            4u
#define SYS_DMA_OFF           1u
#define SYS_DMA_TO_MEMORY     1u
#define SYS_DMA_OWN_MEMORY    2u
#define SYS_DMA_PAGE_REQUESTS 4u

struct sys_dma {
    uint32_t op, flags;
    uint64_t addr, len;
    uint64_t iova, offset;
    uint64_t value;
};

struct sys_dma_info {
    uint32_t translated;   /* 1: it stands behind an IOMMU of this VM */
    uint32_t features;     /* TF_EDU_HAS_*; 0 for QEMU's device */
    uint32_t results;      /* 1: the device says what became of a transfer */
    uint32_t transfer_max; /* bytes */
    uint64_t device_bytes; /* of its own memory */
    uint64_t faults;       /* number of the last one */
    uint64_t interrupts;   /* of the device, so far */
    uint64_t watched;      /* interrupts of the vector in msi_data, which nobody raises */
    uint64_t ram_end;      /* gpa behind the last byte of RAM */
    uint64_t nowhere;      /* gpa of a page where there is neither RAM nor a device */
    uint64_t msi_addr;     /* a DMA write of msi_data here is an interrupt of the boot CPU */
    uint32_t msi_data;
    uint32_t vectors; /* interrupts the driver has; 0: it asks the device instead */
    char device[32];  /* "00:03.0 1234:11e8" */
};

struct sys_dma_fault {
    uint64_t number; /* from 1 on */
    uint64_t iova;
    uint32_t bdf;
    uint32_t write;
    char reason[24];
};

struct sys_dma_shared {
    uint64_t requests, faults;       /* of the device, and of the program */
    uint64_t to_device, from_device; /* bytes moved */
    uint64_t pages, on_device;       /* now */
};

#endif
