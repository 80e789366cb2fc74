package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// scriptTimeout is more than kafka.sh waits for anything, a first fetch of the jars
// included.
const scriptTimeout = 8 * time.Minute

// apacheCluster is a cluster in a folder, as deploy/kafka/kafka.sh keeps it.
type apacheCluster struct {
	script string
	dir    string
	addrs  []string
}

// startApache starts n brokers with their data in dir, which is theirs alone. They
// end with this process at the latest.
func startApache(dir string, n int) (*apacheCluster, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	a := &apacheCluster{script: filepath.Join(root, "deploy", "kafka", "kafka.sh"), dir: dir}
	if err := a.run("up", strconv.Itoa(n)); err != nil {
		return nil, errors.Join(err, a.destroy())
	}
	text, err := os.ReadFile(filepath.Join(dir, "brokers"))
	if err != nil {
		return nil, errors.Join(err, a.destroy())
	}
	a.addrs = strings.Fields(string(text))
	return a, nil
}

func (a *apacheCluster) command(command string, n int) error {
	return a.run(command, strconv.Itoa(n))
}

// destroy kills the brokers: their data goes with them, so a polite stop would only
// cost time.
func (a *apacheCluster) destroy() error { return a.run("destroy") }

// run calls the script. Its output goes to a file, because brokers inherit it: a pipe
// would be open for as long as they run.
func (a *apacheCluster) run(args ...string) error {
	out, err := os.CreateTemp("", "kafka.*.out")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // a temporary file
	defer out.Close()           //nolint:errcheck // only read from, by then
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.script, append(args, a.dir)...)
	cmd.Env = append(cmd.Environ(), "KAFKA_OWNER_PID="+strconv.Itoa(os.Getpid()))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("kafka.sh %s: %w: %s", args[0], err, bytes.TrimSpace(said))
	}
	return nil
}

// said gives the end of what each broker logged.
func (a *apacheCluster) said() string {
	const most = 4 << 10 // of each
	var all strings.Builder
	for n := range a.addrs {
		path := filepath.Join(a.dir, strconv.Itoa(n+1), "out")
		text, err := os.ReadFile(path)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&all, "broker %d:\n%s\n", n+1, text[max(0, len(text)-most):])
	}
	return all.String()
}

// moduleRoot is the folder of go.mod, from the package's folder up, where tests run.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the test: Apache Kafka is started by deploy/kafka of the module")
		}
	}
}
