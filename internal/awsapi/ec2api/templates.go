package ec2api

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"

	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

type template struct {
	ID        string  `xml:"launchTemplateId"`
	Name      string  `xml:"launchTemplateName"`
	CreatedAt instant `xml:"createTime"`
	CreatedBy string  `xml:"createdBy"`
	Default   int64   `xml:"defaultVersionNumber"`
	Latest    int64   `xml:"latestVersionNumber"`
	Tags      []tag   `xml:"tagSet>item"`
}

func shownTemplate(t state.LaunchTemplate) template {
	return template{t.ID, t.Name, instant(t.CreatedAt), t.CreatedBy, t.Default, t.Latest, shownTags(t.Tags)}
}

type templateVersion struct {
	ID          string  `xml:"launchTemplateId"`
	Name        string  `xml:"launchTemplateName"`
	Number      int64   `xml:"versionNumber"`
	Description string  `xml:"versionDescription,omitempty"`
	CreatedAt   instant `xml:"createTime"`
	CreatedBy   string  `xml:"createdBy"`
	Default     bool    `xml:"defaultVersion"`
	Data        data    `xml:"launchTemplateData"`
}

func shownVersion(t state.LaunchTemplate, v state.LaunchTemplateVersion) templateVersion {
	return templateVersion{t.ID, t.Name, v.Number, v.Description, instant(v.CreatedAt), v.CreatedBy, v.Number == t.Default, data(v.Data)}
}

func (a *API) templateARN(account, id string) string {
	return "arn:aws:ec2:" + a.Region + ":" + account + ":launch-template/" + id
}

func (c *call) ref() launchtemplates.Ref {
	return launchtemplates.Ref{ID: c.form.Get("LaunchTemplateId"), Name: c.form.Get("LaunchTemplateName")}
}

// mayChange admits the caller to the template that the request names. Who may change none is not told
// which there are.
func (c *call) mayChange() error {
	t, err := c.Templates.Get(c.ctx, c.who.Account, c.ref())
	if err != nil {
		if denied := c.may(c.templateARN(c.who.Account, "*")); denied != nil {
			return denied
		}
		return err
	}
	return c.may(c.templateARN(c.who.Account, t.ID))
}

func (c *call) draft() (launchtemplates.Draft, error) {
	d, err := readData(c.form)
	return launchtemplates.Draft{Description: c.form.Get("VersionDescription"), Data: d, By: c.who.ARN, Token: c.form.Get("ClientToken")}, err
}

type templateAnswer struct {
	XMLName xml.Name
	header
	Template template `xml:"launchTemplate"`
}

func (c *call) createLaunchTemplate() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	d, err := c.draft()
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, n := range c.form.Numbers("TagSpecification") {
		prefix := fmt.Sprintf("TagSpecification.%d.", n)
		if kind := c.form.Get(prefix + "ResourceType"); kind != "launch-template" {
			return nil, wrong("InvalidParameterValue", "'"+kind+"' is not a valid taggable resource type for this operation.")
		}
		for _, i := range c.form.Numbers(prefix + "Tag") {
			tags[c.form.Get(fmt.Sprintf("%sTag.%d.Key", prefix, i))] = c.form.Get(fmt.Sprintf("%sTag.%d.Value", prefix, i))
		}
	}
	t, _, err := c.Templates.Create(c.ctx, c.who.Account, c.form.Get("LaunchTemplateName"), tags, d)
	return templateAnswer{c.name, c.header, shownTemplate(t)}, err
}

type versionAnswer struct {
	XMLName xml.Name
	header
	Version templateVersion `xml:"launchTemplateVersion"`
}

func (c *call) createLaunchTemplateVersion() (any, error) {
	if err := c.mayChange(); err != nil {
		return nil, err
	}
	d, err := c.draft()
	if err != nil {
		return nil, err
	}
	t, v, err := c.Templates.CreateVersion(c.ctx, c.who.Account, c.ref(), c.form.Get("SourceVersion"), d)
	return versionAnswer{c.name, c.header, shownVersion(t, v)}, err
}

func (c *call) modifyLaunchTemplate() (any, error) {
	if err := c.mayChange(); err != nil {
		return nil, err
	}
	t, err := c.Templates.SetDefault(c.ctx, c.who.Account, c.ref(), c.form.Get("SetDefaultVersion"))
	return templateAnswer{c.name, c.header, shownTemplate(t)}, err
}

func (c *call) deleteLaunchTemplate() (any, error) {
	if err := c.mayChange(); err != nil {
		return nil, err
	}
	t, err := c.Templates.Delete(c.ctx, c.who.Account, c.ref())
	return templateAnswer{c.name, c.header, shownTemplate(t)}, err
}

type templatesAnswer struct {
	XMLName xml.Name
	header
	Items []template `xml:"launchTemplates>item"`
	Next  string     `xml:"nextToken,omitempty"`
}

func templateFacts(t state.LaunchTemplate) facts {
	return func(name string) ([]string, bool) {
		switch name {
		case "launch-template-name":
			return []string{t.Name}, true
		case "create-time":
			text, _ := instant(t.CreatedAt).MarshalText()
			return []string{string(text)}, true
		}
		return tagFacts(t.Tags, name)
	}
}

func (c *call) describeLaunchTemplates() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	filters := c.filters()
	if err := check(filters, templateFacts(state.LaunchTemplate{})); err != nil {
		return nil, err
	}
	named := state.LaunchTemplateFilter{IDs: c.form.List("LaunchTemplateId"), Names: c.form.List("LaunchTemplateName")}
	out := templatesAnswer{XMLName: c.name, header: c.header}
	found, next, err := c.templates(named, filters)
	for _, t := range found {
		out.Items = append(out.Items, shownTemplate(t))
	}
	out.Next = next
	return out, err
}

// templates reads pages until one is full of what passes the filters. A template that is named must exist.
func (c *call) templates(named state.LaunchTemplateFilter, filters []filter) ([]state.LaunchTemplate, string, error) {
	limit, after, err := c.page()
	if err != nil {
		return nil, "", err
	}
	var all, out []state.LaunchTemplate
	page := state.Page{After: after, Limit: limit}
	for {
		items, next, err := c.Templates.List(c.ctx, c.who.Account, named, page)
		if err != nil {
			return nil, "", err
		}
		all = append(all, items...)
		for _, t := range items {
			if passes(filters, templateFacts(t)) {
				out = append(out, t)
			}
		}
		if page.After = next; next == "" || len(out) > 0 {
			break
		}
	}
	if page.After == "" && after == "" {
		err = absent(all, named)
	}
	if page.After != "" {
		page.After = token(page.After)
	}
	return out, page.After, err
}

func absent(all []state.LaunchTemplate, named state.LaunchTemplateFilter) error {
	for _, id := range named.IDs {
		if !slices.ContainsFunc(all, func(t state.LaunchTemplate) bool { return t.ID == id }) {
			return wrong("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID "+id+", does not exist.")
		}
	}
	for _, name := range named.Names {
		if !slices.ContainsFunc(all, func(t state.LaunchTemplate) bool { return t.Name == name }) {
			return wrong("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name "+name+", does not exist.")
		}
	}
	return nil
}

type versionsAnswer struct {
	XMLName xml.Name
	header
	Items []templateVersion `xml:"launchTemplateVersionSet>item"`
	Next  string            `xml:"nextToken,omitempty"`
}

func (c *call) describeLaunchTemplateVersions() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	if c.form.Has("Filter.1.Name") {
		return nil, wrong("InvalidParameterValue", "The filter '"+c.form.Get("Filter.1.Name")+"' is invalid")
	}
	out := versionsAnswer{XMLName: c.name, header: c.header}
	wanted := c.form.List("LaunchTemplateVersion")
	switch {
	case c.ref() == (launchtemplates.Ref{}):
		return c.ofAllTemplates(out, wanted)
	case len(wanted) > 0:
		for _, v := range wanted {
			t, version, err := c.Templates.Version(c.ctx, c.who.Account, c.ref(), v)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, shownVersion(t, version))
		}
		return out, nil
	}
	return c.allVersions(out)
}

// ofAllTemplates shows the latest or default version of every template.
func (c *call) ofAllTemplates(out versionsAnswer, wanted []string) (any, error) {
	for _, v := range wanted {
		if v != launchtemplates.Latest && v != launchtemplates.Default {
			return nil, wrong("InvalidParameterCombination", "A launch template is needed unless the versions are $Latest and $Default.")
		}
	}
	if len(wanted) == 0 {
		return nil, wrong("MissingParameter", "The request must contain the parameter LaunchTemplateId, LaunchTemplateName or LaunchTemplateVersion")
	}
	found, next, err := c.templates(state.LaunchTemplateFilter{}, nil)
	if err != nil {
		return nil, err
	}
	for _, t := range found {
		for _, v := range wanted {
			_, version, err := c.Templates.Version(c.ctx, c.who.Account, launchtemplates.Ref{ID: t.ID}, v)
			if fault.Is(err, fault.NotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, shownVersion(t, version))
		}
	}
	out.Next = next
	return out, nil
}

// allVersions shows the versions from MinVersion to MaxVersion, newest first.
func (c *call) allVersions(out versionsAnswer) (any, error) {
	limit, after, err := c.page()
	if err != nil {
		return nil, err
	}
	low, err := c.form.Int("MinVersion")
	if err != nil {
		return nil, err
	}
	high, err := c.form.Int("MaxVersion")
	if err != nil {
		return nil, err
	}
	if high > 0 && after == "" {
		after = strconv.FormatInt(high+1, 10)
	}
	t, items, next, err := c.Templates.Versions(c.ctx, c.who.Account, c.ref(), state.Page{After: after, Limit: limit})
	if err != nil {
		return nil, err
	}
	for _, v := range items {
		if v.Number < low {
			next = ""
			break
		}
		out.Items = append(out.Items, shownVersion(t, v))
	}
	if next != "" {
		out.Next = token(next)
	}
	return out, nil
}
