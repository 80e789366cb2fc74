package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

type kafka struct {
	Brokers []string `env:"KAFKA_BROKERS" default:"127.0.0.1:9092" help:"addresses of brokers"`
	Secret  string   `env:"KAFKA_SECRET" flag:"-" help:"a secret"`
}

func (k *kafka) Validate() []Fault {
	if len(k.Brokers) == 0 {
		return []Fault{{"ASSENT_KAFKA_BROKERS", "name a broker"}}
	}
	return nil
}

type settings struct {
	Kafka   kafka
	Addr    string        `env:"HTTP_ADDR" default:"127.0.0.1:8080" help:"where to listen"`
	Flush   time.Duration `env:"FLUSH" default:"1s" help:"how long to wait"`
	Stripes int           `env:"STRIPES" default:"4" help:"how many"`
	Open    bool          `env:"ALLOW_OPEN" help:"allow"`
}

func load(t *testing.T, args []string, env map[string]string) (settings, error) {
	t.Helper()
	var s settings
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Bind(flags, &s)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return s, Load(&s, flags, env)
}

func TestLoad_FlagsWinOverEnvironmentAndEnvironmentOverDefaults(t *testing.T) {
	s, err := load(t, []string{"--http-addr=127.0.0.1:1", "--allow-open"},
		map[string]string{"ASSENT_HTTP_ADDR": "127.0.0.1:2", "ASSENT_STRIPES": "8", "ASSENT_KAFKA_BROKERS": "a:1,b:2", "ASSENT_KAFKA_SECRET": "s"})
	if err != nil {
		t.Fatal(err)
	}
	want := settings{Kafka: kafka{Brokers: []string{"a:1", "b:2"}, Secret: "s"}, Addr: "127.0.0.1:1", Flush: time.Second, Stripes: 8, Open: true}
	if !reflect.DeepEqual(s, want) {
		t.Fatalf("got %+v, want %+v", s, want)
	}
}

func TestLoad_ReportsEveryFaultWithItsSetting(t *testing.T) {
	_, err := load(t, []string{"--flush=soon"}, map[string]string{"ASSENT_STRIPES": "many", "ASSENT_ALLOW_OPEN": "perhaps"})
	if err == nil {
		t.Fatal("no fault was reported")
	}
	for _, want := range []string{
		`ASSENT_FLUSH (--flush): "soon" is not a duration`,
		`ASSENT_STRIPES (--stripes): "many" is not a number`,
		`ASSENT_ALLOW_OPEN (--allow-open): "perhaps" is neither true nor false`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
}

func TestLoad_AsksNestedStructsToValidateThemselves(t *testing.T) {
	_, err := load(t, nil, map[string]string{"ASSENT_KAFKA_BROKERS": ""})
	if err == nil || !strings.Contains(err.Error(), "ASSENT_KAFKA_BROKERS: name a broker") {
		t.Fatalf("got %v", err)
	}
}

func TestBind_KeepsSecretsOffTheCommandLine(t *testing.T) {
	var s settings
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Bind(flags, &s)
	if flags.Lookup("kafka-secret") != nil {
		t.Fatal("a secret can be given on the command line")
	}
	if f := flags.Lookup("flush"); f == nil || f.Value.Type() != "duration" || !strings.Contains(f.Usage, "ASSENT_FLUSH") {
		t.Fatalf("--flush does not name its kind and variable: %+v", f)
	}
}

func TestUnknown_NamesMistypedVariablesAndSparesKubernetes(t *testing.T) {
	faults := Unknown(map[string]string{
		"ASSENT_HTP_ADDR":                 "x",
		"ASSENT_WHATEVER_THIS_IS":         "x",
		"ASSENT_HTTP_PORT":                "8080",
		"ASSENT_PORT":                     "tcp://10.0.0.1:8080",
		"ASSENT_SERVICE_HOST":             "10.0.0.1",
		"ASSENT_SERVICE_PORT":             "8080",
		"ASSENT_SERVICE_PORT_HTTP":        "8080",
		"ASSENT_PORT_8080_TCP":            "tcp://10.0.0.1:8080",
		"ASSENT_PORT_8080_TCP_ADDR":       "10.0.0.1",
		"ASSENT_PORT_8080_TCP_PORT":       "8080",
		"ASSENT_GATEWAY_PORT_80_TCP":      "tcp://10.0.0.1:80",
		"ASSENT_GATEWAY_SERVICE_HOST":     "10.0.0.1",
		"ASSENT_PORT_8080_TCP_PROTO":      "tcp",
		"HOME":                            "/",
		"ASSENT_KAFKA_BROKERS":            "x",
		"ASSENT_PROCESSOR_1_SERVICE_PORT": "1",
	}, Settings(&settings{}))
	var got []string
	for _, f := range faults {
		got = append(got, f.Setting)
	}
	want := []string{"ASSENT_HTP_ADDR", "ASSENT_HTTP_PORT", "ASSENT_WHATEVER_THIS_IS"}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if !strings.Contains(faults[0].Message, "did you mean ASSENT_HTTP_ADDR?") {
		t.Errorf("no help for a slip: %s", faults[0])
	}
}
