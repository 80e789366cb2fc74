package config

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"github.com/sethvargo/go-envconfig"
	"github.com/spf13/pflag"
)

// Prefix starts every variable of ours.
const Prefix = "ASSENT_"

// Fault is one thing that is wrong with the settings.
type Fault struct {
	Setting string // the variable, with its flag where it has one
	Message string
}

func (f Fault) String() string { return f.Setting + ": " + f.Message }

// Faults is everything that is wrong; it is an error with a line for each.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// Validator is a settings struct that checks more than single fields.
type Validator interface{ Validate() []Fault }

// Setting describes one field.
type Setting struct {
	Env     string // with prefix
	Flag    string // without dashes; "" = environment only
	Default string
	Help    string

	index []int
	field reflect.StructField
}

// Name is how a fault speaks of the setting.
func (s Setting) Name() string {
	if s.Flag == "" {
		return s.Env
	}
	return s.Env + " (--" + s.Flag + ")"
}

// Settings lists the settings of a struct, given by pointer, in field order.
func Settings(target any) []Setting {
	return settingsOf(reflect.TypeOf(target).Elem(), nil)
}

func settingsOf(t reflect.Type, index []int) []Setting {
	var all []Setting
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int(nil), index...), i)
		env, tagged := f.Tag.Lookup("env")
		if !tagged {
			if f.Type.Kind() == reflect.Struct {
				all = append(all, settingsOf(f.Type, at)...)
			}
			continue
		}
		s := Setting{Env: Prefix + env, Default: f.Tag.Get("default"), Help: f.Tag.Get("help"), index: at, field: f}
		if f.Tag.Get("flag") != "-" {
			s.Flag = strings.ReplaceAll(strings.ToLower(env), "_", "-")
		}
		all = append(all, s)
	}
	return all
}

// Bind adds the struct's flags to a flag set. Values are parsed by Load.
func Bind(flags *pflag.FlagSet, target any) {
	for _, s := range Settings(target) {
		if s.Flag == "" {
			continue
		}
		if s.field.Type.Kind() == reflect.Bool {
			flags.Bool(s.Flag, s.Default == "true", s.Help+" ["+s.Env+"]")
			continue
		}
		flags.String(s.Flag, s.Default, s.Help+" ["+s.Env+"]")
		// The value's own type names it in --help.
		flags.Lookup(s.Flag).Value = named{flags.Lookup(s.Flag).Value, kindName(s.field.Type)}
	}
}

type named struct {
	pflag.Value
	kind string
}

func (n named) Type() string { return n.kind }

func kindName(t reflect.Type) string {
	switch {
	case t.String() == "time.Duration":
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64, t.Kind() == reflect.Float64:
		return "number"
	}
	return "text"
}

// Load fills target from flags that were set, then the environment, then
// defaults. The error is Faults.
func Load(target any, flags *pflag.FlagSet, env map[string]string) error {
	set := map[string]string{}
	if flags != nil {
		flags.Visit(func(f *pflag.Flag) { set[f.Name] = f.Value.String() })
	}
	var faults Faults
	v := reflect.ValueOf(target).Elem()
	for _, s := range Settings(target) {
		if err := s.load(v.FieldByIndex(s.index), set, env); err != nil {
			faults = append(faults, Fault{s.Name(), err.Error()})
		}
	}
	if len(faults) == 0 {
		faults = validate(v)
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// load fills one field: a struct of this field alone goes through go-envconfig.
func (s Setting) load(into reflect.Value, flags, env map[string]string) error {
	const key = "VALUE"
	values := map[string]string{key: s.Default}
	if text, ok := env[s.Env]; ok {
		values[key] = text
	}
	if text, ok := flags[s.Flag]; ok && s.Flag != "" {
		values[key] = text
	}
	if values[key] == "" && into.Kind() != reflect.String {
		return nil // the zero value: empty lists, and numbers without a default
	}
	one := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value", Type: s.field.Type, Tag: `env:"` + key + `"`,
	}}))
	err := envconfig.ProcessWith(context.Background(), &envconfig.Config{
		Target: one.Interface(), Lookuper: envconfig.MapLookuper(values),
	})
	if err != nil {
		return explain(s.field.Type, values[key], err)
	}
	into.Set(one.Elem().Field(0))
	return nil
}

func explain(t reflect.Type, text string, err error) error {
	switch kindName(t) {
	case "duration":
		return fmt.Errorf("%q is not a duration such as 250ms, 15s or 2m", text)
	case "number":
		return fmt.Errorf("%q is not a number", text)
	}
	if t.Kind() == reflect.Bool {
		return fmt.Errorf("%q is neither true nor false", text)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}

func validate(v reflect.Value) Faults {
	var faults Faults
	for i := range v.NumField() {
		if f := v.Field(i); v.Type().Field(i).IsExported() && f.Kind() == reflect.Struct {
			faults = append(faults, validate(f)...)
		}
	}
	if c, ok := v.Addr().Interface().(Validator); ok {
		faults = append(faults, c.Validate()...)
	}
	return faults
}

// injected are the variables that Kubernetes sets for a Service of our name.
var injected = regexp.MustCompile(`^ASSENT_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// Unknown reports variables with our prefix that no setting of known has: a
// mistyped name must not pass in silence.
func Unknown(env map[string]string, known []Setting) Faults {
	names := map[string]bool{}
	for _, s := range known {
		names[s.Env] = true
	}
	var faults Faults
	for name, value := range env {
		if !strings.HasPrefix(name, Prefix) || names[name] || fromKubernetes(name, value) {
			continue
		}
		message := "there is no such setting"
		if near := nearest(name, known); near != "" {
			message += "; did you mean " + near + "?"
		}
		faults = append(faults, Fault{name, message})
	}
	sort.Slice(faults, func(i, j int) bool { return faults[i].Setting < faults[j].Setting })
	return faults
}

// fromKubernetes tells an injected variable from a mistyped one that happens to
// end in PORT: Kubernetes writes URLs and addresses there.
func fromKubernetes(name, value string) bool {
	if !injected.MatchString(name) {
		return false
	}
	return !strings.HasSuffix(name, "_PORT") || strings.Contains(value, "://") || strings.Contains(name, "SERVICE_PORT") || strings.Contains(name, "_TCP_") || strings.Contains(name, "_UDP_") || strings.Contains(name, "_SCTP_")
}

func nearest(name string, known []Setting) string {
	best, distance := "", 4 // further away is another word, not a slip
	for _, s := range known {
		if d := editDistance(name, s.Env, distance); d < distance {
			best, distance = s.Env, d
		}
	}
	return best
}

// editDistance is Levenshtein's, given up above limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
