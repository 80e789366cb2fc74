package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// runChild starts a child, waits until it has ended and all that it printed is read. served tells whether it got
// ready; err tells why it ended, in any case.
func (s *Server) runChild() (served bool, err error) {
	command := exec.CommandContext(context.Background(), s.opts.Executable, s.opts.Args...)
	command.Env = append([]string{"TZ=UTC"}, s.opts.Env...)
	command.ExtraFiles = []*os.File{s.socket} // becomes listenerFD
	command.SysProcAttr = dieWithParent()
	stdin, err := command.StdinPipe()
	if err != nil {
		return false, err
	}
	stdout, stdoutWriter := io.Pipe()
	stderr, stderrWriter := io.Pipe()
	command.Stdout, command.Stderr = stdoutWriter, stderrWriter
	if err := command.Start(); err != nil {
		return false, fmt.Errorf("start the embedded ClickHouse: %w", err)
	}
	pid := command.Process.Pid
	s.set(errors.New("embedded ClickHouse is starting"), pid)

	var readers sync.WaitGroup
	var said announcement
	var lastLines tail
	ready := make(chan struct{})
	readers.Go(func() { said.read(stdout, func() { close(ready) }) })
	readers.Go(func() { lastLines.read(stderr, s.opts.Logger) })

	ended := make(chan struct{})
	var waitErr error
	go func() { // ends with the child
		waitErr = command.Wait()
		_, _ = stdoutWriter.Close(), stderrWriter.Close()
		readers.Wait()
		close(ended)
	}()
	s.sendOrder(stdin)

	for done := false; !done; {
		select {
		case <-ready:
			ready = nil
			s.ready(pid)
		case <-s.stopped.Done():
			stopChild(stdin, command.Process, ended)
			done = true
		case <-ended:
			done = true
		}
	}
	<-ended
	_ = stdin.Close()
	return said.ready, childError(said, waitErr, &lastLines)
}

// ready notes that the child serves. The first time it lets Start return.
func (s *Server) ready(pid int) {
	s.set(nil, pid)
	select {
	case s.first <- nil:
	default: // not the first child
	}
	s.opts.Logger.Info("the embedded ClickHouse is ready", "addr", s.Addr(), "pid", pid)
}

// sendOrder tells the child what to do. A child that is dead already shows by its end.
func (s *Server) sendOrder(stdin io.Writer) {
	line, err := json.Marshal(order{
		DataDir: s.opts.DataDir, Library: s.opts.Library, Database: s.opts.Database,
		Password: s.password, LockWait: s.opts.LockWait,
	})
	if err == nil {
		_, _ = stdin.Write(append(line, '\n'))
	}
}

// stopChild closes the life line, and kills the child where that does not help.
func stopChild(stdin io.Closer, process *os.Process, ended <-chan struct{}) {
	_ = stdin.Close()
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		_ = process.Kill()
	}
}

// childError says in one sentence why a child ended.
func childError(said announcement, waitErr error, lastLines *tail) error {
	if said.failure != "" {
		return &startError{said.failure, lastLines.text()}
	}
	if waitErr == nil {
		waitErr = errors.New("it exited")
	}
	if text := lastLines.text(); text != "" {
		return fmt.Errorf("%w; its last words: %s", waitErr, text)
	}
	return waitErr
}

// startError is what a child said before it gave up.
type startError struct{ sentence, lastWords string }

func (e *startError) Error() string {
	text := "embedded ClickHouse: " + e.sentence
	if e.lastWords != "" {
		text += "; its last words: " + e.lastWords
	}
	return text
}

func (e *startError) Is(target error) bool {
	return target == ErrDirectoryInUse && strings.HasPrefix(e.sentence, ErrDirectoryInUse.Error())
}

// announcement is what a child prints on standard output.
type announcement struct {
	ready   bool
	failure string
}

func (a *announcement) read(r io.Reader, onReady func()) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch {
		case verb == "ready" && !a.ready:
			a.ready = true
			onReady()
		case verb == "failed":
			if json.Unmarshal([]byte(rest), &a.failure) != nil {
				a.failure = rest
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long must not block the child
}

// tail forwards a child's log and keeps the last lines that are not log records: the engine's own.
type tail struct{ lines []string }

const tailLines = 5

func (t *tail) read(r io.Reader, log *slog.Logger) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		var record struct {
			Level slog.Level `json:"level"`
			Msg   string     `json:"msg"`
			Err   string     `json:"err"`
		}
		if json.Unmarshal([]byte(line), &record) == nil && record.Msg != "" {
			attrs := []any{"from", "embedded ClickHouse"}
			if record.Err != "" {
				attrs = append(attrs, "err", record.Err)
			}
			log.Log(context.Background(), record.Level, record.Msg, attrs...)
			continue
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		log.Warn("the embedded ClickHouse says", "line", line)
		if t.lines = append(t.lines, line); len(t.lines) > tailLines {
			t.lines = t.lines[1:]
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

func (t *tail) text() string { return strings.Join(t.lines, " | ") }
