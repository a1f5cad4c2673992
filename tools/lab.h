/*
 * The lab: the appliance in an emulated machine. lab_work.c prepares a work
 * folder, lab_qemu.c and lab_bochs.c start a machine in it, lab_session.c talks
 * to the appliance until it ends, cmd_lab.c ties them together.
 */
#ifndef TWOFOLD_TOOLS_LAB_H
#define TWOFOLD_TOOLS_LAB_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/error.h"

#define LAB_FILES_MAX 64

/* SOURCE of one side and where it goes on the other; both are the user's words. */
struct lab_file {
    char *source;
    char *target;
};

struct lab_options {
    bool ept;     /* Bochs instead of QEMU */
    bool npt_off; /* kvm_amd npt=0, kvm_intel ept=0 */
    bool keep;    /* leave the work folder */
    unsigned int cpus;
    uint64_t mem;          /* bytes */
    double timeout;        /* seconds, 0 for none */
    const char *appliance; /* a folder, or NULL: the one that belongs to this program */
    const char *domain;    /* the domain's file, or NULL: the appliance's */
    const char *append;    /* more kernel parameters, or NULL */
    struct lab_file in[LAB_FILES_MAX], out[LAB_FILES_MAX];
    unsigned int ins, outs;
    const char *const *command; /* NULL: a prompt */
    int command_len;
};

/* --- lab_work.c -------------------------------------------------------------- */

struct lab_work {
    char dir[80]; /* a temporary folder, for this lab alone */
    char appliance[PATH_MAX];
};

/* Finds the appliance and makes the folder, which lab_guard() removes. 0 or -errno. */
int lab_work_create(struct lab_work *work, const struct lab_options *opt, struct error *err);

/* DIR/initrd: the appliance's, with the files and the command behind it. */
int lab_work_initrd(struct lab_work *work, const struct lab_options *opt, struct error *err);

/* Finds `program` in PATH; names the Debian package that has it if it isn't there. 0 or -errno. */
int lab_find_program(const char *program, const char *package, char path[PATH_MAX],
                     struct error *err);

/*
 * Copies the text file `from` to a new string, with each {WORD} of `words`
 * (pairs, NULL at the end) replaced. With `xml`, values are escaped, and words
 * inside comments stay. NULL with the error set.
 */
char *lab_fill(const char *from, const char *const words[][2], bool xml, struct error *err);

/* --- lab_guard.c ------------------------------------------------------------------ */

/*
 * Runs `fn` in a child and returns its status, or -errno. When it ends, however
 * it ends, every process that it left is killed and `dir` removed, unless
 * `keep`; the same happens when this process is killed. The child's orphans are
 * reaped at once, which libvirt waits for. No threads may run yet.
 */
int lab_guard(int (*fn)(void *ctx), void *ctx, const char *dir, bool keep);

void lab_remove_folder(const char *dir);

/* --- the machines --------------------------------------------------------------- */

struct lab_machine {
    int link;    /* what the agent says (tools/lab_link.h), -1 when closed */
    int console; /* the kernel's console */
    int display; /* a pty that has to be kept empty, or -1 */
    int screen;  /* another one, Bochs' own, or -1 */
    bool files;  /* link and console are growing files, not sockets */
    pid_t pid;   /* our child, or 0: then the sockets' end is the machine's end */
    void *impl;
};

/* Starts a machine on the initrd of `work`. 0 or -errno. */
int lab_qemu_start(struct lab_machine *m, struct lab_work *work, const struct lab_options *opt,
                   struct error *err);
int lab_bochs_start(struct lab_machine *m, struct lab_work *work, const struct lab_options *opt,
                    struct error *err);

/* Opens Bochs' own screen once it has one: m->screen. Until then nothing changes. */
void lab_bochs_find_screen(struct lab_machine *m);

/* Ends it if it still runs, closes everything. Fine on a machine that didn't start. */
void lab_qemu_stop(struct lab_machine *m);
void lab_bochs_stop(struct lab_machine *m);

/* Lets go of libvirt, after lab_qemu_stop(). */
void lab_qemu_close(struct lab_machine *m);

/* --- lab_session.c ---------------------------------------------------------------- */

enum lab_end {
    LAB_ENDED,    /* the agent gave a status */
    LAB_HUNG,     /* the agent never said hello: Linux hung or died before */
    LAB_TIMEOUT,  /* the time is over */
    LAB_DIED,     /* the machine ended without a status */
    LAB_SIGNALED, /* a signal told us to end */
    LAB_LEFT,     /* Ctrl-A x */
    LAB_UNREAD,   /* nobody reads the output any more */
    LAB_FAILED,   /* an error of ours */
};

/*
 * Serves the machine until one of the ends above. *status is the command's
 * (LAB_ENDED) or the signal (LAB_SIGNALED). The console goes to DIR/console.log and,
 * without a command, to the terminal.
 */
enum lab_end lab_session(struct lab_machine *m, const struct lab_work *work,
                         const struct lab_options *opt, int *status, struct error *err);

/* The last lines of the console's log on stderr. */
void lab_console_tail(const struct lab_work *work);

/* Blocks the signals that end a lab, for lab_session() to read. Before any thread is started. */
void lab_block_signals(void);

#endif
