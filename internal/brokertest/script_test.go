package brokertest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/brokertest"
)

const script = "../../deploy/kafka/kafka.sh"

// sleeper is a process that has nothing to do with brokers.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func runScript(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience) // cleanups call it, too
	defer cancel()
	out, err := os.Create(filepath.Join(t.TempDir(), "out")) // no pipe: brokers keep it open
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // written by others
	cmd := exec.CommandContext(ctx, script, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	failed := cmd.Run()
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatalf("%v: %v\n%s", args, failed, said)
	}
	return string(said)
}

// A pid file outlives its broker, and the system gives numbers out again.
func TestScript_EndsNoProcessThatItDidNotStart(t *testing.T) {
	for _, command := range [][]string{{"kill", "1"}, {"down"}, {"destroy"}} {
		t.Run(command[0], func(t *testing.T) {
			foreign := sleeper(t)
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "1"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"pid": strconv.Itoa(foreign.Process.Pid), "broker.properties": ""} {
				if err := os.WriteFile(filepath.Join(dir, "1", name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			exited := make(chan struct{})
			go func() { defer close(exited); _ = foreign.Wait() }()
			runScript(t, nil, append(command, dir)...)
			select {
			case <-exited:
				t.Error("it ended a process that it had not started")
			case <-time.After(100 * time.Millisecond): // a kill would be seen at once
			}
			_ = foreign.Process.Kill()
			<-exited
		})
	}
}

func TestScript_BrokersEndWithTheirOwner(t *testing.T) {
	if kind, _ := brokertest.ParseKind(os.Getenv(brokertest.Variable)); kind == brokertest.InProcess {
		t.Skipf("starts Apache Kafka: run it with %s=apache", brokertest.Variable)
	}
	owner := sleeper(t)
	dir := filepath.Join(t.TempDir(), "kafka")
	t.Cleanup(func() { runScript(t, nil, "destroy", dir) })
	runScript(t, []string{"KAFKA_OWNER_PID=" + strconv.Itoa(owner.Process.Pid)}, "up", "1", dir)
	if _, err := os.Stat(filepath.Join(dir, "brokers")); err != nil {
		t.Fatal(err)
	}
	_ = owner.Process.Kill()
	_ = owner.Wait()
	deadline := time.Now().Add(patience)
	for {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cluster is still there %s after its owner's end:\n%s", patience, runScript(t, nil, "status", dir))
		}
		time.Sleep(20 * time.Millisecond)
	}
}
