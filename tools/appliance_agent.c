#include "tools/appliance_agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "tools/appliance.h"
#include "tools/lab_link.h"

#define PORTS       "/sys/class/virtio-ports"
#define PORT_WAIT   5000 /* ms, until the host's port shows up */
#define OUT_MAX     64
#define COMMAND_MAX 131072
#define ARGS_MAX    4096

struct agent {
    int link;
    bool serial;   /* nothing comes from the host, and nothing can be asked */
    char *command; /* NUL-separated, or NULL */
    size_t command_len;
    char *outs;
    size_t outs_len;

    pid_t pid;
    int in, out, err; /* our ends of the command's pipes, -1 when closed */
    bool ended;
    int status;
    struct lab_parser parser;
    unsigned char input[LAB_FRAME_MAX]; /* for the command's stdin */
    size_t input_at, input_len;
    bool input_end;
};

/* Reads a small file into a buffer with a NUL behind it; NULL when there is none. */
static char *load(const char *path, size_t *len)
{
    char *buf = malloc(COMMAND_MAX + 1);
    FILE *f = fopen(path, "re");

    if (f && buf) {
        *len = fread(buf, 1, COMMAND_MAX, f);
        buf[*len] = 0;
    } else {
        free(buf);
        buf = NULL;
    }
    if (f)
        (void)fclose(f);
    return buf;
}

/* The device node of the port that carries our name. */
static bool find_port(char *path, size_t size)
{
    DIR *dir = opendir(PORTS);
    bool found = false;

    if (!dir)
        return false;
    for (struct dirent *e = readdir(dir); e && !found; e = readdir(dir)) {
        char file[512];
        size_t len = 0;
        char *name;

        (void)snprintf(file, sizeof(file), PORTS "/%s/name", e->d_name);
        name = e->d_name[0] == '.' ? NULL : load(file, &len);
        found = name && !strncmp(name, LAB_PORT_NAME "\n", sizeof(LAB_PORT_NAME));
        free(name);
        if (found)
            (void)snprintf(path, size, "/dev/%.40s", e->d_name);
    }
    closedir(dir);
    return found;
}

static int open_serial(const char *name)
{
    struct termios raw;
    char path[32];
    int fd;

    (void)snprintf(path, sizeof(path), "/dev/%.20s", name);
    fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || tcgetattr(fd, &raw))
        return -errno;
    cfmakeraw(&raw);
    raw.c_cflag |= CLOCAL;
    (void)cfsetspeed(&raw, B115200);
    (void)tcsetattr(fd, TCSANOW, &raw);
    return fd;
}

static int open_port(void)
{
    char path[64];

    /* Ports come by messages of the device, some time after its driver. */
    for (int ms = 0; ms < PORT_WAIT; ms += 10) {
        struct timespec pause = { .tv_nsec = 10000000 };

        if (find_port(path, sizeof(path))) {
            int fd = open(path, O_RDWR | O_CLOEXEC);

            return fd < 0 ? -errno : fd;
        }
        (void)nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
}

int agent_open(struct agent **out, const char *serial, struct error *err)
{
    struct agent *agent;
    unsigned char hello[4];

    *out = NULL;
    if (access(LAB_OUT_FILE, F_OK))
        return 0; /* no overlay of the lab */
    agent = calloc(1, sizeof(*agent));
    if (!agent)
        return error_set(err, -ENOMEM, "no memory for the lab's link");
    agent->serial = serial != NULL;
    agent->link = serial ? open_serial(serial) : open_port();
    if (agent->link < 0) {
        int code = agent->link;

        free(agent);
        return error_set(err, code, "the lab's link (%s) can't be opened: %s",
                         serial ? serial : "virtio port " LAB_PORT_NAME, strerror(-code));
    }
    agent->command = load(LAB_COMMAND_FILE, &agent->command_len);
    agent->outs = load(LAB_OUT_FILE, &agent->outs_len);
    lab_parser_init(&agent->parser);
    lab_put32(hello, LAB_LINK_VERSION);
    (void)lab_send(agent->link, LAB_HELLO, hello, sizeof(hello));
    *out = agent;
    return 0;
}

bool agent_has_command(const struct agent *agent)
{
    return agent->command != NULL;
}

/* The child of start_command(): never returns. */
_Noreturn static void become_command(struct agent *agent, int in, int out, int err)
{
    const char **argv = calloc(ARGS_MAX + 1, sizeof(*argv));
    size_t n = 0;

    (void)dup2(in, STDIN_FILENO);
    (void)dup2(out, STDOUT_FILENO);
    (void)dup2(err, STDERR_FILENO);
    for (size_t at = 0; argv && at < agent->command_len && n < ARGS_MAX;
         at += strlen(agent->command + at) + 1)
        argv[n++] = agent->command + at;
    _exit(n && appliance_session(NULL) == 0 ? appliance_exec(argv) : 126);
}

static bool start_command(struct agent *agent)
{
    int in[2] = { -1, -1 };
    int out[2];
    int err[2];

    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        return false;
    agent->pid = fork();
    if (agent->pid == 0)
        become_command(agent, in[0], out[1], err[1]);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    agent->in = in[1];
    agent->out = out[0];
    agent->err = err[0];
    (void)fcntl(agent->in, F_SETFL, O_NONBLOCK);
    (void)fcntl(agent->out, F_SETFL, O_NONBLOCK);
    (void)fcntl(agent->err, F_SETFL, O_NONBLOCK);
    if (agent->serial) {
        close(agent->in);
        agent->in = -1;
    }
    return agent->pid > 0;
}

/* One read of a pipe, handed on as a frame. Closes at its end. False: nothing was there. */
static bool forward(struct agent *agent, int *fd, enum lab_frame type)
{
    char buf[LAB_FRAME_MAX];
    ssize_t n;

    if (*fd < 0)
        return false;
    n = read(*fd, buf, sizeof(buf));
    if (n > 0) {
        (void)lab_send(agent->link, type, buf, (size_t)n);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(*fd);
        *fd = -1;
    }
    return false;
}

static int on_frame(void *ctx, enum lab_frame type, const unsigned char *payload, size_t len)
{
    struct agent *agent = ctx;

    if (type != LAB_STDIN)
        return 0;
    if (len == 0)
        agent->input_end = true;
    memcpy(agent->input, payload, len);
    agent->input_at = 0;
    agent->input_len = len;
    return 0;
}

/* Reads at most one frame: what it holds has to go to the command before the next. */
static void read_link(struct agent *agent)
{
    size_t want = agent->parser.have < 8
                      ? 8 - agent->parser.have
                      : 8 + lab_get32(agent->parser.frame + 4) - agent->parser.have;
    unsigned char buf[LAB_FRAME_MAX];
    ssize_t n = read(agent->link, buf, want < sizeof(buf) ? want : sizeof(buf));

    if (n > 0 && lab_parser_feed(&agent->parser, buf, (size_t)n, on_frame, agent) < 0)
        agent->input_end = true;
}

static void write_input(struct agent *agent)
{
    if (agent->in >= 0 && agent->input_len) {
        ssize_t n = write(agent->in, agent->input + agent->input_at, agent->input_len);

        if (n > 0) {
            agent->input_at += (size_t)n;
            agent->input_len -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            agent->input_end = true;
            agent->input_len = 0;
        }
    }
    if (agent->in >= 0 && agent->input_end && !agent->input_len) {
        close(agent->in);
        agent->in = -1;
    }
}

/* Children that ended, and requests to power off. */
static void read_signals(struct agent *agent, int signals)
{
    struct signalfd_siginfo info;
    int wstatus;
    pid_t pid;

    if (read(signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo != SIGCHLD) {
        agent->ended = true;
        return;
    }
    while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0) {
        if (pid != agent->pid)
            continue;
        agent->ended = true;
        agent->status = appliance_status(wstatus);
    }
}

int agent_run(struct agent *agent, int signals)
{
    if (!start_command(agent))
        return 126;
    while (!agent->ended) {
        bool listen = agent->in >= 0 && !agent->input_len && !agent->input_end;
        struct pollfd fds[] = {
            { .fd = signals, .events = POLLIN },
            { .fd = agent->out, .events = POLLIN },
            { .fd = agent->err, .events = POLLIN },
            { .fd = agent->serial ? -1 : agent->link, .events = listen ? POLLIN : 0 },
            { .fd = agent->input_len ? agent->in : -1, .events = POLLOUT },
        };

        if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0)
            continue;
        if (fds[1].revents)
            (void)forward(agent, &agent->out, LAB_STDOUT);
        if (fds[2].revents)
            (void)forward(agent, &agent->err, LAB_STDERR);
        if (fds[3].revents & POLLHUP)
            return agent->status; /* the lab is gone: nobody listens any more */
        if (fds[3].revents & POLLIN)
            read_link(agent);
        write_input(agent);
        if (fds[0].revents)
            read_signals(agent, signals);
    }
    /* What the command left in its pipes; its children may hold them open for ever. */
    while (forward(agent, &agent->out, LAB_STDOUT))
        ;
    while (forward(agent, &agent->err, LAB_STDERR))
        ;
    return agent->status;
}

static int send_file(struct agent *agent, uint32_t index, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    unsigned char buf[LAB_FRAME_MAX];
    struct stat st;
    ssize_t n = 0;

    if (fd < 0 || fstat(fd, &st)) {
        int code = errno;

        if (fd >= 0)
            close(fd);
        return code;
    }
    lab_put32(buf, index);
    lab_put32(buf + 4, st.st_mode & 0777);
    (void)lab_send(agent->link, LAB_FILE, buf, 8);
    while ((n = read(fd, buf, sizeof(buf))) > 0)
        (void)lab_send(agent->link, LAB_FILE_DATA, buf, (size_t)n);
    n = n < 0 ? errno : 0;
    close(fd);
    return (int)n;
}

void agent_finish(struct agent *agent, int status)
{
    unsigned char buf[8];
    uint32_t index = 0;

    for (size_t at = 0; at < agent->outs_len && index < OUT_MAX; index++) {
        int code = send_file(agent, index, agent->outs + at);

        lab_put32(buf, index);
        lab_put32(buf + 4, (uint32_t)code);
        (void)lab_send(agent->link, LAB_FILE_END, buf, 8);
        at += strlen(agent->outs + at) + 1;
    }
    lab_put32(buf, (uint32_t)status);
    (void)lab_send(agent->link, LAB_STATUS, buf, 4);
    if (agent->serial)
        (void)tcdrain(agent->link);
    else
        (void)poll(NULL, 0, 3000); /* the lab ends the machine as soon as it has the status */
}
